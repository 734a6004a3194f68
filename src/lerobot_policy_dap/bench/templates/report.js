"use strict";

// Sorting: a click on a heading sorts by that column, a second one turns the order round.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
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
      body.append(...[...body.rows].sort(compare));
    });
  });
}

// Videos: one button for all, so that the same seed can be watched under every condition at once.
const videos = [...document.querySelectorAll("video")];
const play = document.getElementById("play");
if (play) {
  const speed = document.getElementById("speed");
  const show = () => {
    const running = videos.some((video) => !video.paused && !video.ended);
    play.textContent = running ? "Pause" : "Play all";
    play.setAttribute("aria-pressed", String(running));
  };
  const start = (fromTheTop) => {
    for (const video of videos) {
      video.playbackRate = Number(speed.value);
      if (fromTheTop) video.currentTime = 0;
      // A refusal (a browser that saves power) leaves the first frame, which is no error.
      if (!video.ended || fromTheTop) video.play().catch(() => {});
    }
  };
  const toggle = () => {
    if (videos.some((video) => !video.paused && !video.ended)) videos.forEach((video) => video.pause());
    else start(videos.every((video) => video.ended || video.currentTime === 0));
  };
  for (const video of videos) {
    video.controls = false;
    video.addEventListener("click", toggle);
    for (const event of ["play", "pause", "ended"]) video.addEventListener(event, show);
  }
  play.addEventListener("click", toggle);
  document.getElementById("restart").addEventListener("click", () => start(true));
  speed.addEventListener("change", () => videos.forEach((video) => (video.playbackRate = Number(speed.value))));
  play.closest("[hidden]").hidden = false;
}
