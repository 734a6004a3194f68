"""The server as clients and strangers meet it: answers, refusals, limits, health, draining, new checkpoints."""

import asyncio
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from small_policies import CAMERA, STATE, A, client, eventually, observation, save_checkpoint, serving
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.runtime.client import PolicyClient, ServerUnavailable
from lerobot_policy_dap.runtime.model import ModelOptions, ServedModel
from lerobot_policy_dap.runtime.refusals import Refused
from lerobot_policy_dap.runtime.server import PolicyServer, ServerOptions
from lerobot_policy_dap.runtime.service import Reloader
from lerobot_policy_dap.runtime.wire import decode, encode

KEY = "0123456789abcdef" * 2


def get(server, path, key=None):
    """Status and text of an HTTP request."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}")
    if key is not None:
        request.add_header("Authorization", f"Api-Key {key}")
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@contextmanager
def messages_of(asking):
    """What the client sends."""
    sent, ask = [], asking._ask
    asking._ask = lambda message: sent.append(decode(message)) or ask(message)
    yield sent
    asking._ask = ask


def address(server):
    return f"ws://127.0.0.1:{server.port}"


def test_openpis_published_client_drives_it_unchanged(model):
    openpi = pytest.importorskip("openpi_client.websocket_client_policy")
    with serving(model) as server:
        policy = openpi.WebsocketClientPolicy("127.0.0.1", server.port)
        assert policy.get_server_metadata()["observation"][CAMERA]["height"] == 48
        for i in range(3):
            answer = policy.infer(observation(i))
            assert answer["actions"].shape == (model.chunk, A)
            assert answer["server_timing"]["infer_ms"] > 0
        with pytest.raises(RuntimeError, match=r"missing_feature: observation\.images\.front is missing"):
            policy.infer({STATE: observation()[STATE]})
        assert policy.infer(observation())["actions"].shape == (model.chunk, A)  # the connection goes on


def test_a_chunk_carries_stamp_name_latency_and_what_was_limited(model):
    with serving(model) as server, client(server) as asking:
        answers = [asking.infer({**observation(i), "timestamp": 10.0 + i}) for i in range(2)]
        assert [answer["timestamp"] for answer in answers] == [10.0, 11.0]
        assert answers[0]["chunk_id"] != answers[1]["chunk_id"]
        assert answers[0]["weights"] == model.weights[:12]
        timing = answers[1]["server_timing"]
        assert timing["total_ms"] >= timing["infer_ms"]
        assert timing["prev_total_ms"] > 0
        limited = sum(answer["limited"]["out_of_range"] for answer in answers)
        assert server.metrics.value("actions_limited_total", limit="out_of_range") == limited
        for answer in answers:
            assert (answer["actions"] >= model.limits.low).all()
            assert (answer["actions"] <= model.limits.high).all()
        metadata = asking.get_server_metadata()
        assert (metadata["chunk_size"], metadata["n_action_steps"], metadata["n_obs_steps"]) == (6, 3, 1)


def test_refusals_name_the_feature_and_are_counted(model):
    with serving(model) as server, client(server) as asking:
        with pytest.raises(Refused) as refused:
            asking.infer({**observation(), CAMERA: np.zeros((3, 48, 64), np.uint8)})
        assert refused.value.reason == "wrong_channel_order"
        assert CAMERA in str(refused.value)
        _, text = get(server, "/metrics")
        assert 'dap_refusals_total{reason="wrong_channel_order"} 1' in text
        with connect(address(server)) as raw:
            raw.recv()
            raw.send("hello")
            assert raw.recv() == "malformed_message: text; send msgpack in a binary message"
            raw.send(b"\x80\x04\x95cos\nsystem")
            assert raw.recv().startswith("malformed_message: ")
            raw.send(encode(observation()))
            assert decode(raw.recv())["actions"].shape == (6, A)


def test_many_clients_share_calls_and_each_gets_its_own_answer(checkpoints):
    """`act` without noise: the answer to an observation is one and the same, whoever asks when."""
    served = ServedModel(checkpoints("act"), ModelOptions(max_batch=8))
    seen = [observation(i) for i in range(12)]
    expected = [
        planned.checked.actions for i in range(12) for planned in served.plan([served.contract.read(seen[i])])
    ]
    with serving(served) as server, ThreadPoolExecutor(12) as pool:

        def ask(i):
            with client(server, deadline=30) as asking:
                return [asking.infer(seen[i])["actions"] for _ in range(3)]

        for i, answers in enumerate(pool.map(ask, range(12))):
            for answer in answers:
                np.testing.assert_allclose(answer, expected[i], atol=1e-4)
        calls = [line for line in server.metrics.text().splitlines() if line.startswith("dap_batch_size_count")]
        assert int(calls[0].split()[1]) < 36


def test_strangers_stay_outside(model):
    with serving(model, api_key=KEY) as server:
        for wrong in (None, "guess", KEY[:-1], KEY + "0", "é"):
            assert get(server, "/metrics", None if wrong is None else wrong.encode().decode("latin-1"))[0] == 401
            with pytest.raises(InvalidStatus, match="401"):
                connect(
                    address(server), additional_headers={"Authorization": f"Api-Key {wrong}"} if wrong else None
                )
        with pytest.raises(Refused, match="does not take the API key"):
            client(server, api_key="guess")
        assert get(server, "/healthz") == (200, "ok\n")
        assert get(server, "/metrics", KEY)[0] == 200
        with client(server, api_key=KEY) as asking:
            asking.infer(observation())


def test_a_web_page_may_not_speak_to_a_server_on_its_readers_machine(model):
    with serving(model) as server, pytest.raises(InvalidStatus, match="403"):
        connect(address(server), origin="https://example.org")


def test_other_machines_need_a_key(model):
    for host in ("0.0.0.0", "::", ""):
        with pytest.raises(UserError, match="give an API key"):
            PolicyServer(model, ServerOptions(host=host))
    with pytest.raises(UserError, match="at least 16"):
        PolicyServer(model, ServerOptions(host="0.0.0.0", api_key="short"))
    for host in ("127.0.0.1", "::1", "localhost"):
        ServerOptions(host=host).check()


def test_a_port_that_is_taken(model):
    with (
        serving(model) as server,
        pytest.raises(UserError, match=f"port {server.port}"),
        serving(model, port=server.port),
    ):
        pass


def test_rate_size_and_number_of_connections_are_bounded(model):
    with serving(model, max_connections=2, max_rate=2.0) as server:
        with connect(address(server)) as one, connect(address(server)) as two:
            one.recv(), two.recv()
            with pytest.raises(InvalidStatus, match="503"):
                connect(address(server))
            replies = []
            for _ in range(8):
                one.send(encode(observation()))
                replies.append(one.recv())
            assert any(isinstance(reply, str) and reply.startswith("rate_limited: ") for reply in replies)
            two.send(b"\0" * (8 * 2**20))
            with pytest.raises(ConnectionClosed, match="1009"):
                two.recv()
        eventually(lambda: server.metrics.value("connections") == 0)
        assert server.metrics.value("refusals_total", reason="message_too_large") == 1
        with client(server) as asking, pytest.raises(Refused) as refused:
            asking.infer({**observation(), "spare": np.zeros(8 * 2**20, np.uint8)})
        assert refused.value.reason == "message_too_large"


def test_slow_senders_are_hung_up_on_and_others_do_not_wait_for_them(model):
    """In the handshake, in the middle of a frame, and frame by frame."""
    with serving(model, message_timeout=0.5, ping=0.5) as server, client(server) as other:
        handshake = socket.create_connection(("127.0.0.1", server.port))
        handshake.sendall(b"GET / HTTP/1.1\r\n")
        frame = connect(address(server), ping_interval=None)
        frame.recv()
        frame.socket.sendall(b"\x82\xfe\x40\x00")  # a frame of 16 kB is announced, and never comes
        fragments = connect(address(server))
        fragments.recv()

        def trickle():
            while not done.is_set():
                yield b"\xc0"
                done.wait(0.1)

        done = threading.Event()

        def send():
            with pytest.raises(ConnectionClosed):
                fragments.send(trickle())

        sending = threading.Thread(target=send)
        sending.start()
        handshake.settimeout(20)
        while handshake.recv(1000):  # until the server hangs up
            pass
        for raw in (frame, fragments):
            with pytest.raises(ConnectionClosed):
                raw.recv(timeout=20)
        done.set()
        sending.join()
        assert other.infer(observation())["actions"].shape == (6, A)
        eventually(lambda: server.metrics.value("connections") == 1)


def test_a_half_open_connection_is_noticed(model):
    """The client's machine is gone: nothing is said, and pings are not answered."""
    with serving(model, ping=0.3) as server:
        raw = connect(address(server), ping_interval=None)
        raw.recv()
        raw.protocol.receive_data = lambda data: None  # pings arrive, and nobody is there
        eventually(lambda: server.metrics.value("connections") == 0)


class Stalling:
    """A model whose next call waits until it is let go."""

    def __init__(self, model, monkeypatch):
        self.go, self.stall = threading.Event(), True
        inner = model.plan

        def plan(requests):
            if self.stall:
                self.go.wait(30)
            return inner(requests)

        monkeypatch.setattr(model, "plan", plan)


def test_a_stalled_model_answers_errors_within_the_deadline_and_is_unhealthy(checkpoints, monkeypatch):
    served = ServedModel(checkpoints("dap"), ModelOptions(max_batch=2))
    stalling = Stalling(served, monkeypatch)
    with serving(served, deadline=0.5) as server, client(server) as asking, client(server) as behind:
        with ThreadPoolExecutor() as pool:
            calling = pool.submit(asking.infer, observation())
            eventually(lambda: len(server._busy) == 1)
            waiting = pool.submit(behind.infer, observation())  # for its turn
            for answer in (calling, waiting):
                with pytest.raises(Refused, match="has not returned within") as refused:
                    answer.result(20)
                assert refused.value.reason == "stalled"
        assert get(server, "/healthz") == (503, "stalled\n")
        assert "dap_healthy 0" in get(server, "/metrics")[1]
        with pytest.raises(Refused):  # at once: nothing waits behind it
            asking.infer(observation())
        stalling.stall = False
        stalling.go.set()
        eventually(lambda: get(server, "/healthz")[0] == 200)
        assert asking.infer(observation())["actions"].shape == (6, A)


def test_a_failing_model_is_an_error_of_that_call_alone(checkpoints, monkeypatch):
    served = ServedModel(checkpoints("dap"), ModelOptions(max_batch=2))
    with serving(served) as server, client(server) as asking:
        with monkeypatch.context() as patch:
            patch.setattr(served, "plan", lambda requests: 1 / 0)
            with pytest.raises(Refused, match=r"the policy failed \(ZeroDivisionError\)"):
                asking.infer(observation())
        asking.infer(observation())


def test_draining_answers_what_is_under_way_and_closes_the_rest(checkpoints, monkeypatch):
    served = ServedModel(checkpoints("dap"), ModelOptions(max_batch=2))
    stalling = Stalling(served, monkeypatch)
    with serving(served) as server, ThreadPoolExecutor() as pool, client(server) as busy, client(server) as idle:
        answer = pool.submit(busy.infer, observation())
        eventually(lambda: len(server._busy) == 1)
        ending = pool.submit(server.within, server.stop())
        with pytest.raises(ServerUnavailable, match="no answer within 1 s"):
            idle.infer(observation(), deadline=1)
        stalling.go.set()
        assert answer.result(10)["actions"].shape == (6, A)
        ending.result(10)


def test_requests_that_outlast_the_draining_are_told_to_go(checkpoints, monkeypatch):
    served = ServedModel(checkpoints("dap"), ModelOptions(max_batch=2))
    stalling = Stalling(served, monkeypatch)
    with serving(served, drain=0.2) as server, connect(address(server)) as raw:
        raw.recv()
        raw.send(encode(observation()))
        eventually(lambda: len(server._busy) == 1)
        server.within(server.stop())
        with pytest.raises(ConnectionClosed) as closed:
            raw.recv(timeout=5)
        assert closed.value.rcvd.code == 1001
        stalling.go.set()


def test_a_client_that_is_closed_lets_go_of_the_request_under_way(checkpoints, monkeypatch):
    served = ServedModel(checkpoints("dap"), ModelOptions(max_batch=2))
    stalling = Stalling(served, monkeypatch)
    with serving(served) as server, ThreadPoolExecutor() as pool:
        asking = client(server, deadline=20)
        under_way = pool.submit(asking.infer, observation())
        eventually(lambda: len(server._busy) == 1)
        behind = pool.submit(asking.infer, observation())  # for its turn
        asking.close()
        for request in (under_way, behind):
            with pytest.raises(ServerUnavailable, match="the client was closed"):
                request.result(10)
        with pytest.raises(ServerUnavailable, match="the client was closed"):
            asking.infer(observation())
        asking.close()
        stalling.go.set()


def test_an_episode_begins_with_the_first_request_that_is_answered(model):
    with serving(model) as server, client(server) as asking:
        asking.infer({**observation(), "timestamp": 10.0})
        asking.reset()
        with pytest.raises(Refused, match="is missing"):
            asking.infer({STATE: observation()[STATE], "timestamp": 1.0})
        with messages_of(asking) as sent:
            asking.infer({**observation(), "timestamp": 2.0})
            asking.infer({**observation(), "timestamp": 3.0})
        first, second = sent
        assert first["reset"] is True
        assert "reset" not in second
        assert first["episode_token"] == second["episode_token"]
        with messages_of(asking) as sent:
            asking.infer({**observation(), "reset": True, "timestamp": 1.0})
        assert sent[0]["episode_token"] != second["episode_token"]
        asking._metadata = {}  # a server that is not ours
        with messages_of(asking) as sent:
            asking.infer(observation())
        assert set(sent[0]) == set(observation())


def test_a_new_checkpoint_is_taken_without_dropping_clients_and_another_kind_is_refused(
    tmp_path, model, checkpoints
):
    folder = tmp_path / "run"
    shutil.copytree(checkpoints("dap"), folder)
    served = ServedModel(folder, ModelOptions(max_batch=8))
    with serving(served) as server, client(server) as asking:
        reloader = Reloader(server, folder, served.options)
        before = asking.infer(observation())["weights"]
        fresh = save_checkpoint(tmp_path / "fresh", seed=1)
        shutil.copy(fresh / "model.safetensors", folder)
        assert server.within(reloader.reload())
        assert asking.infer(observation())["weights"] != before
        assert asking.reconnections == 0
        now = server.model
        save_checkpoint(folder, seed=2, horizon=8)
        assert not server.within(reloader.reload())
        (folder / "model.safetensors").write_bytes(b"half")
        assert not server.within(reloader.reload())
        assert server.model is now
        asking.infer(observation())
        assert server.metrics.value("reloads_total", outcome="refused") == 2


def test_a_watched_run_is_followed(tmp_path):
    run = tmp_path / "run" / "checkpoints"
    for step in ("1", "2"):
        save_checkpoint(run / step / "pretrained_model", seed=int(step))
    (run / "last").symlink_to("1")
    served = ServedModel(tmp_path / "run", ModelOptions(max_batch=2))
    with serving(served) as server:
        reloader = Reloader(server, tmp_path / "run", served.options)

        async def watch():
            return asyncio.create_task(reloader.watch(0.05))

        watching = server.within(watch())
        (run / "new").symlink_to("2")
        (run / "new").replace(run / "last")
        eventually(lambda: server.model is not served)
        assert server.model.folder == (run / "2" / "pretrained_model").resolve()
        watching.get_loop().call_soon_threadsafe(watching.cancel)


def test_a_client_without_a_server_fails_clearly_within_its_deadline():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ServerUnavailable, match=r"no answer within 0\.4 s \(.*Connect call failed"):
        PolicyClient("127.0.0.1", port, deadline=0.4)


def test_a_server_that_says_nothing_is_given_up_on():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ServerUnavailable, match="it does not answer"):
            PolicyClient("127.0.0.1", silent.getsockname()[1], deadline=0.4)


def test_a_client_finds_a_restarted_server_again(model):
    with serving(model) as first:
        port = first.port
        asking = client(first, deadline=20)
        asking.infer(observation())
    waiting = threading.Thread(target=lambda: answers.append(asking.infer(observation())))
    answers = []
    waiting.start()
    time.sleep(0.3)
    with serving(model, port=port):
        waiting.join(20)
        assert answers[0]["actions"].shape == (6, A)
        assert asking.reconnections == 1
        asking.close()
