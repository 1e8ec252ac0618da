// What the pointer does on the canvas. Every tool works on the frame that is shown, never on one that is still coming.

import { Layer, Mask } from "./mask.js";
import { HANDLE } from "./stage.js";

const CLOSE = 9; // screen pixels within which a polygon's first point is met
const LEAST_BOX = 3; // screen pixels: less is a click

export class Tools {
  // app: {stage, clip, frame, active, layers, ready(), activate(id), edits,
  //       proposals, hover(index), say(text), toolChanged()}
  constructor(app) {
    this.app = app;
    this.name = "select";
    this.size = 24; // brush diameter in pixels of the video
    this.pointer = null; // last position in pixels of the video
    this.space = false;
    this.drag = null;
    this.points = []; // of the polygon
    const canvas = app.stage.canvas;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", () => this.cancel());
    canvas.addEventListener("pointerleave", () => { this.pointer = null; app.hover(-1); app.stage.draw(); });
    canvas.addEventListener("dblclick", () => { if (this.name === "polygon") this.closePolygon(); });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (!app.stage.size) return;
      const box = canvas.getBoundingClientRect();
      if (event.shiftKey) { // browsers turn the wheel sideways then
        this.resize((event.deltaY || event.deltaX) < 0 ? 1.15 : 1 / 1.15);
        return;
      }
      const pixels = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
      const factor = Math.exp(-Math.max(-120, Math.min(120, pixels)) * (event.ctrlKey ? 0.01 : 0.0022));
      app.stage.zoom(factor, event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
  }

  use(name) {
    if (this.drag) return;
    this.points = [];
    this.name = name;
    this.app.toolChanged();
    this.app.stage.draw();
  }

  resize(factor) {
    const next = factor > 1 ? Math.max(this.size + 1, this.size * factor) : Math.min(this.size - 1, this.size * factor);
    this.setSize(next);
  }

  setSize(size) {
    this.size = Math.round(Math.max(1, Math.min(400, size)));
    this.app.toolChanged();
    this.app.stage.draw();
  }

  // Whether there was something to cancel.
  cancel() {
    const was = this.drag !== null || this.points.length > 0;
    if (this.drag?.undo) this.drag.undo();
    this.drag = null;
    this.points = [];
    this.app.stage.draw();
    return was;
  }

  // Takes back the polygon's last point; whether there was one.
  backspace() {
    if (!this.points.length) return false;
    this.points.pop();
    this.app.stage.draw();
    return true;
  }

  closePolygon(erase = false) {
    if (this.points.length < 3) return false;
    const points = this.points;
    this.points = [];
    const mask = this.#maskToPaint(erase);
    if (!mask) return true;
    mask.polygon(points, erase ? 0 : 1);
    this.app.edits.setMask(this.app.active, mask);
    return true;
  }

  get cursor() {
    if (this.space || this.drag?.pan) return this.drag?.pan ? "grabbing" : "grab";
    if (this.name === "brush" || this.name === "eraser") return "none";
    return this.name === "select" ? "default" : "crosshair";
  }

  // Where the pointer is on the active object's box: {dx, dy} of -1, 0, 1 (both 0: inside), or null.
  handleAt([x, y]) {
    const box = this.app.clip?.prompt(this.app.active, this.app.frame)?.box;
    if (!box) return null;
    const reach = HANDLE / this.app.stage.scale;
    const [left, top, width, height] = box;
    const right = left + width, bottom = top + height;
    if (x < left - reach || x > right + reach || y < top - reach || y > bottom + reach) return null;
    const near = (value, low, high) => (Math.abs(value - low) <= reach ? -1 : Math.abs(value - high) <= reach ? 1 : 0);
    return { dx: near(x, left, right), dy: near(y, top, bottom) };
  }

  #down(event) {
    const { app } = this;
    app.stage.canvas.focus({ preventScroll: true });
    if (this.drag) return;
    const point = app.stage.at(event);
    const pans = this.space || event.button === 1;
    if (!pans && !app.ready()) return;
    app.stage.canvas.setPointerCapture(event.pointerId);
    if (pans || (this.name === "select" && event.button === 0 && !this.#click(point))) {
      this.drag = { pan: true, x: event.clientX, y: event.clientY };
    } else if (this.name === "brush" || this.name === "eraser") {
      this.#beginStroke(point, this.name === "eraser" || event.button === 2 || event.altKey);
    } else if (event.button === 0 && this.name === "box") {
      this.#beginBox(point);
    } else if (event.button === 0 && this.name === "polygon") {
      this.#addPoint(point, event);
    }
    this.#cursor(point);
  }

  #move(event) {
    const { app } = this;
    const point = app.stage.at(event);
    if (this.drag?.pan) {
      app.stage.pan(event.clientX - this.drag.x, event.clientY - this.drag.y);
      this.drag.x = event.clientX;
      this.drag.y = event.clientY;
    } else if (this.drag?.stroke) {
      for (const one of event.getCoalescedEvents?.() ?? [event]) this.#stroke(app.stage.at(one));
    } else if (this.drag?.box) {
      this.drag.to = point;
    } else if (this.name === "select" && app.ready()) {
      app.hover(this.#proposalAt(point));
    }
    this.pointer = point;
    this.#cursor(point);
    app.stage.draw();
  }

  #up(event) {
    const { app, drag } = this;
    if (!drag) return;
    this.drag = null;
    if (drag.stroke) app.edits.setMask(drag.id, drag.mask);
    else if (drag.box) {
      const box = this.boxOf({ ...drag, to: app.stage.at(event) });
      const tooSmall = box === null || Math.max(box[2], box[3]) * app.stage.scale < LEAST_BOX;
      if (!tooSmall) app.edits.setBox(drag.id, box);
      else if (drag.fresh) app.say("Drag from one corner of the object to the opposite one.");
    }
    this.#cursor(app.stage.at(event));
    app.stage.draw();
  }

  #click(point) {
    const { app } = this;
    const proposal = this.#proposalAt(point);
    if (proposal >= 0) {
      app.edits.accept(proposal);
      return true;
    }
    const id = app.edits.objectAt(point);
    if (id !== null) app.activate(id);
    return false; // a drag that begins on an object still pans
  }

  #proposalAt([x, y]) {
    let best = -1, least = Infinity;
    this.app.proposals.forEach((proposal, index) => {
      if (proposal.mask.has(x, y) && proposal.area < least) {
        best = index;
        least = proposal.area;
      }
    });
    return best;
  }

  #maskToPaint(erase) {
    const { app } = this;
    const layer = app.layers.get(app.active);
    const { width, height } = app.stage.size;
    if (!layer && erase) {
      app.say(`Object ${app.active} has no mask on this frame to erase.`);
      return null;
    }
    const copy = new Mask(width, height);
    if (layer) {
      copy.data.set(layer.mask.data);
      copy.bounds = layer.mask.bounds && { ...layer.mask.bounds };
    }
    return copy;
  }

  #beginStroke(point, erase) {
    const { app } = this;
    const mask = this.#maskToPaint(erase);
    if (!mask) return;
    const id = app.active;
    const before = app.layers.get(id);
    app.layers.set(id, new Layer(mask, app.colour(id)));
    const undo = () => {
      if (before) app.layers.set(id, before);
      else app.layers.delete(id);
    };
    this.drag = { stroke: true, id, mask, value: erase ? 0 : 1, last: point, undo };
    this.#stroke(point);
  }

  #stroke(point) {
    const { mask, value, last, id } = this.drag;
    const box = mask.stroke(last[0], last[1], point[0], point[1], this.size / 2, value);
    this.drag.last = point;
    if (box) this.app.layers.get(id).update(box);
    this.app.stage.draw();
  }

  #beginBox(point) {
    const { app } = this;
    const handle = this.handleAt(point);
    if (handle) {
      this.drag = { box: true, id: app.active, handle, start: app.clip.prompt(app.active, app.frame).box, from: point, to: point };
    } else {
      this.drag = { box: true, fresh: true, id: app.edits.targetForNew(), from: point, to: point };
    }
  }

  // [x, y, width, height] of a box that is being dragged, in whole pixels on the frame; null where nothing is left.
  boxOf({ handle, start, from, to }) {
    const { width, height } = this.app.stage.size;
    let [x0, y0, x1, y1] = [from[0], from[1], to[0], to[1]];
    if (handle) {
      let dx = to[0] - from[0], dy = to[1] - from[1];
      const inside = !handle.dx && !handle.dy;
      if (inside) {
        dx = Math.max(-start[0], Math.min(width - start[0] - start[2], dx));
        dy = Math.max(-start[1], Math.min(height - start[1] - start[3], dy));
      }
      [x0, y0, x1, y1] = [start[0], start[1], start[0] + start[2], start[1] + start[3]];
      if (inside || handle.dx < 0) x0 += dx;
      if (inside || handle.dx > 0) x1 += dx;
      if (inside || handle.dy < 0) y0 += dy;
      if (inside || handle.dy > 0) y1 += dy;
    }
    const clip = (value, most) => Math.round(Math.max(0, Math.min(most, value)));
    const left = clip(Math.min(x0, x1), width), right = clip(Math.max(x0, x1), width);
    const top = clip(Math.min(y0, y1), height), bottom = clip(Math.max(y0, y1), height);
    return right > left && bottom > top ? [left, top, right - left, bottom - top] : null;
  }

  #addPoint(point, event) {
    const { stage } = this.app;
    if (this.points.length >= 3) {
      const [x, y] = this.points[0];
      if (Math.hypot(x - point[0], y - point[1]) * stage.scale <= CLOSE) {
        this.closePolygon(event.altKey);
        return;
      }
    }
    this.points.push(point);
    stage.draw();
  }

  #cursor(point) {
    let cursor = this.cursor;
    const handle = this.name === "box" && !this.drag?.pan && !this.space ? this.handleAt(point) : null;
    if (handle) {
      const { dx, dy } = handle;
      cursor = dx && dy ? (dx === dy ? "nwse-resize" : "nesw-resize") : dx ? "ew-resize" : dy ? "ns-resize" : "move";
    }
    this.app.stage.canvas.style.cursor = cursor;
  }
}
