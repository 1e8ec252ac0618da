// Buttons, fields and sliders of the page, and what they do.

import { byId } from "./dom.js";

export function connect(app) {
  document.querySelectorAll("#tools button").forEach((button) => button.addEventListener("click", () => app.tools.use(button.dataset.tool)));
  byId("size").addEventListener("input", () => app.tools.setSize(400 ** (Number(byId("size").value) / 100)));
  byId("undo").addEventListener("click", () => app.undo());
  byId("redo").addEventListener("click", () => app.redo());
  byId("fit").addEventListener("click", () => app.stage.fit());
  byId("previous").addEventListener("click", () => app.stepVideo(-1));
  byId("next").addEventListener("click", () => app.stepVideo(1));
  byId("help-button").addEventListener("click", () => app.help());
  byId("help-close").addEventListener("click", () => byId("help").close());
  byId("help").addEventListener("click", (event) => { if (event.target === byId("help")) byId("help").close(); });
  byId("help").addEventListener("keydown", (event) => { if (event.key === "?") byId("help").close(); });
  byId("timeline").addEventListener("input", () => app.goTo(Number(byId("timeline").value)));
  byId("frame").addEventListener("change", () => {
    const number = byId("frame").valueAsNumber;
    app.goTo(Number.isFinite(number) ? number : app.frame);
  });
  byId("frame").addEventListener("keydown", (event) => { if (event.key === "Enter") app.stage.canvas.focus({ preventScroll: true }); });
  byId("frame-back").addEventListener("click", () => app.step(-1));
  byId("frame-on").addEventListener("click", () => app.step(1));
  byId("new-object").addEventListener("click", () => app.edits.newObject());
  byId("absent").addEventListener("click", () => app.edits.absent());
  byId("remove").addEventListener("click", () => app.edits.remove());
  byId("complete").addEventListener("change", () => app.edits.toggleComplete());
  for (const id of ["opacity", "outlines", "tags"]) byId(id).addEventListener("input", () => app.stage.draw());
  byId("filter").addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      const first = byId("list").querySelector("li:not([hidden]) button");
      if (first) app.open(Number(first.dataset.key));
      app.stage.canvas.focus({ preventScroll: true });
    }
  });
  addEventListener("beforeunload", (event) => {
    if ([...app.clips.values()].some((clip) => clip.unsaved)) event.preventDefault();
  });
}
