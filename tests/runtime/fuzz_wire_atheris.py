"""Coverage-guided fuzzing of the decoder with atheris; run by hand, not by pytest.

    python tests/runtime/fuzz_wire_atheris.py -runs=1000000 corpus/

It stops at the first input that crashes the decoder, hangs it, or brings anything but plain values out of it.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))
with atheris.instrument_imports(include=["lerobot_policy_dap.runtime.wire", "msgpack"]):
    from wire_mutations import check, seeds


def main():
    corpus = next((Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")), None)
    if corpus is not None:
        corpus.mkdir(parents=True, exist_ok=True)
        for i, seed in enumerate(seeds()):
            (corpus / f"seed-{i}").write_bytes(seed)
    atheris.Setup([*sys.argv, "-max_len=4096", "-timeout=5", "-rss_limit_mb=4096"], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
