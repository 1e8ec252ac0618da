// Every key and what it does; the help is made of the same table.

import { byId, make } from "./dom.js";

// [keys as shown, what it does, matches(event), action(app, event)]
// AltGr, with which some keyboards write [ and ], counts as no modifier.
const modified = (event) => (event.ctrlKey || event.metaKey || event.altKey) && !event.getModifierState("AltGraph");
const plain = (...names) => (event) => !event.ctrlKey && !event.metaKey && !event.altKey && !event.shiftKey && names.includes(event.key.length === 1 ? event.key.toLowerCase() : event.key);
const shifted = (...names) => (event) => !event.ctrlKey && !event.metaKey && !event.altKey && event.shiftKey && names.includes(event.key.length === 1 ? event.key.toLowerCase() : event.key);
const either = (...names) => (event) => !modified(event) && names.includes(event.key);
const control = (name, shift) => (event) => (event.ctrlKey || event.metaKey) && event.shiftKey === shift && event.key.toLowerCase() === name;

const TABLE = [
  ["Tools", [
    ["V", "select, pan, take proposals", plain("v"), (app) => app.tools.use("select")],
    ["R", "box; drag its edges to change it", plain("r"), (app) => app.tools.use("box")],
    ["B", "brush (Alt or right button erases)", plain("b"), (app) => app.tools.use("brush")],
    ["E", "eraser", plain("e"), (app) => app.tools.use("eraser")],
    ["G", "polygon: click points, Enter fills", plain("g"), (app) => app.tools.use("polygon")],
    ["[  ]", "smaller, larger brush (Shift+wheel)", either("[", "]"), (app, event) => app.tools.resize(event.key === "]" ? 1.2 : 1 / 1.2)],
    ["P", "next proposal; Enter takes it", plain("p"), (app) => app.hover(app.proposals.length ? (app.hovered + 1) % app.proposals.length : -1)],
    ["Esc", "cancel what is being drawn", plain("Escape"), (app) => app.escape()],
  ]],
  ["Editing", [
    ["Ctrl+Z", "undo", control("z", false), (app) => app.undo()],
    ["Ctrl+Shift+Z", "redo (or Ctrl+Y)", (event) => control("z", true)(event) || control("y", false)(event), (app) => app.redo()],
    ["?", "this list", either("?"), (app) => app.help()],
  ]],
  ["Objects", [
    ["1 … 9", "make that object active", either("1", "2", "3", "4", "5", "6", "7", "8", "9"), (app, event) => app.activate(Number(event.key))],
    ["N", "new object", plain("n"), (app) => app.edits.newObject()],
    ["Enter", "name the active object", either("Enter"), (app, event) => app.enter(event)],
    ["Alt+Enter", "cut the polygon out", (event) => event.altKey && event.key === "Enter", (app) => app.tools.closePolygon(true)],
    ["I", "give it another number", plain("i"), (app) => app.panel.editId()],
    ["Del", "remove its prompt on this frame", plain("Delete", "Backspace"), (app) => app.edits.remove()],
    ["Shift+Del", "remove it from every frame", shifted("Delete", "Backspace"), (app) => app.edits.removeObject(app.active)],
    ["A", "it is absent on this frame", plain("a"), (app) => app.edits.absent()],
    ["C", "objects not given on this frame are absent", plain("c"), (app) => app.edits.toggleComplete()],
  ]],
  ["Frames", [
    ["← →", "one frame", plain("ArrowLeft", "ArrowRight"), (app, event) => app.step(event.key === "ArrowRight" ? 1 : -1)],
    ["Shift+←→", "ten frames", shifted("ArrowLeft", "ArrowRight"), (app, event) => app.step(event.key === "ArrowRight" ? 10 : -10)],
    [",  .", "previous, next prompted frame", plain(",", "."), (app, event) => app.stepPrompted(event.key === "." ? 1 : -1)],
    ["Home End", "first, last frame", plain("Home", "End"), (app, event) => app.goTo(event.key === "Home" ? 0 : Infinity)],
    ["T", "type a frame number", plain("t"), () => { byId("frame").focus(); byId("frame").select(); }],
  ]],
  ["Videos", [
    ["J K PgDn PgUp", "next, previous video", plain("j", "k", "PageDown", "PageUp"), (app, event) => app.stepVideo(["j", "PageDown"].includes(event.key) ? 1 : -1)],
    ["U", "next without a prompt", plain("u"), (app) => app.stepVideo(1, true)],
    ["/", "filter the list", either("/"), () => { byId("filter").focus(); byId("filter").select(); }],
  ]],
  ["View", [
    ["wheel", "zoom", () => false, null],
    ["Space+drag", "pan (or with the middle button)", () => false, null],
    ["+  −", "zoom in, out", either("+", "=", "-", "−"), (app, event) => app.stage.zoom(["+", "="].includes(event.key) ? 1.25 : 0.8)],
    ["0  F", "fit the frame", plain("0", "f"), (app) => app.stage.fit()],
    ["H", "hide masks and boxes while held", plain("h"), (app) => app.hide(true)],
    ["O", "outlines on or off", plain("o"), () => byId("outlines").click()],
  ]],
];

const WHILE_TYPING = new Set(["PageDown", "PageUp"]);

export function listen(app) {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || byId("help").open) return;
    const field = event.target.closest?.("input:not([type=range]):not([type=checkbox]), select, textarea");
    if (field && !WHILE_TYPING.has(event.key)) {
      if (event.key === "Escape") app.stage.canvas.focus({ preventScroll: true });
      return;
    }
    if (event.key === " ") {
      // A button in focus is pressed by Space as ever.
      if (event.target.closest?.("button, [type=checkbox]")) return;
      event.preventDefault();
      app.panning(true);
      return;
    }
    if (event.key === "Enter" && event.target.closest?.("button")) return;
    if (event.target.type === "range" && event.target.id !== "timeline" && event.key.startsWith("Arrow")) return;
    for (const [, entries] of TABLE) {
      for (const [, , matches, action] of entries) {
        if (!matches(event)) continue;
        event.preventDefault();
        action(app, event);
        return;
      }
    }
  });
  document.addEventListener("keyup", (event) => {
    if (event.key === " ") app.panning(false);
    if (event.key.toLowerCase() === "h") app.hide(false);
  });
  addEventListener("blur", () => { app.panning(false); app.hide(false); });
  byId("keys").append(...TABLE.map(([title, entries]) => make("section", {}, make("h3", {}, title),
    make("dl", {}, ...entries.flatMap(([keys, what]) => [
      make("dt", {}, ...keys.split(" ").filter(Boolean).flatMap((key, i) => [i ? " " : null, make("kbd", {}, key)])), make("dd", {}, what),
    ])))));
}
