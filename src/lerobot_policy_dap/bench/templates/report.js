"use strict";

// Sorting: a click on a heading sorts by that column, a second one turns the order round. Each body of a table is
// sorted by itself: a control stays on top, and physical factors stay apart.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset[table.dataset.measure] ?? cell.dataset.value ?? cell.textContent.trim();
    const number = Number(text);
    return text !== "" && Number.isFinite(number) ? number : text;
  };
  headings.forEach((heading, column) => {
    const button = heading.querySelector("button");
    if (!button) return;
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of headings) {
        if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      }
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const compare = (a, b) => {
        const x = valueOf(a, column);
        const y = valueOf(b, column);
        const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
        return up ? order : -order;
      };
      for (const body of table.tBodies) {
        if (!("fixed" in body.dataset)) body.append(...[...body.rows].sort(compare));
      }
    });
  });
}

// What the map shows.
for (const choice of document.querySelectorAll("input[name=measure]")) {
  const show = () => {
    if (!choice.checked) return;
    document.getElementById("map").closest("section").dataset.shows = choice.value;
    for (const table of document.querySelectorAll(".heat")) table.dataset.measure = choice.value;
  };
  choice.addEventListener("change", show);
  show();
}

// The task switch. A block belongs to one task, or to all together; what is shown for all too are
// the rows of long tables, videos, and the images of one task as a sample.
const task = document.getElementById("task");
const showTask = () => {
  const everything = task.selectedIndex === 0;
  for (const part of document.querySelectorAll("[data-task]")) {
    const shown = part.dataset.task === task.value || (everything && part.matches("tr, .clips, .sample"));
    part.classList.toggle("off", !shown);
  }
};
// A link into a task that is not shown shows it.
const follow = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const part = target?.closest("[data-task].off");
  if (part) {
    task.value = part.dataset.task;
    showTask();
    target.scrollIntoView();
  }
};
if (task) {
  task.addEventListener("change", showTask);
  window.addEventListener("hashchange", follow);
  showTask();
  follow();
}
for (const controls of document.querySelectorAll(".controls[hidden]")) controls.hidden = false;

// Videos: one button for all that are shown, so that the same seed can be watched under every condition at once.
const play = document.getElementById("play");
if (play) {
  const videos = [...document.querySelectorAll("video")];
  const speed = document.getElementById("speed");
  const shown = () => videos.filter((video) => video.getClientRects().length);
  const runs = (video) => !video.paused && !video.ended;
  const show = () => {
    const running = videos.some(runs);
    play.textContent = running ? "Pause" : "Play all";
    play.setAttribute("aria-pressed", String(running));
  };
  const start = (some, fromTheTop) => {
    for (const video of some) {
      video.playbackRate = Number(speed.value);
      if (fromTheTop) video.currentTime = 0;
      // A refusal (a browser that saves power) leaves the first frame, which is no error.
      if (!video.ended || fromTheTop) video.play().catch(() => {});
    }
  };
  const toggle = (some) => {
    if (some.some(runs)) some.forEach((video) => video.pause());
    else start(some, some.every((video) => video.ended || video.currentTime === 0));
  };
  for (const video of videos) {
    video.controls = false;
    video.tabIndex = 0;
    const row = () => toggle([...video.closest(".clips").querySelectorAll("video")]);
    video.addEventListener("click", row);
    video.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      row();
    });
    for (const event of ["play", "pause", "ended"]) video.addEventListener(event, show);
  }
  play.addEventListener("click", () => toggle(videos.some(runs) ? videos : shown()));
  document.getElementById("restart").addEventListener("click", () => start(shown(), true));
  speed.addEventListener("change", () => videos.forEach((video) => (video.playbackRate = Number(speed.value))));
}
