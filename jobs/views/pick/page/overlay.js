// What is drawn over the frame: masks, boxes, points, proposals, the polygon and the brush in hand.

import { byId } from "./dom.js";
import { Layer, Mask } from "./mask.js";
import { HANDLE, strokeTwice, tag } from "./stage.js";

export class Overlay {
  constructor(app) { this.app = app; }

  // Masks of the frame on the canvas, as layers; those that have not changed stay.
  layers() {
    if (!this.app.clip || this.app.shown === null || !this.app.stage.size || this.app.tools.drag?.stroke) return;
    const { width, height } = this.app.stage.size;
    for (const id of new Set([...this.app.layers.keys(), ...this.app.clip.ids])) {
      const prompt = this.app.clip.prompt(id, this.app.shown);
      const masked = prompt?.kind === "mask" && prompt.counts.length > 1;
      if (!masked) {
        this.app.layers.delete(id);
        this.app.layerOf.delete(id);
      } else if (this.app.layerOf.get(id) !== prompt) {
        this.app.layers.set(id, new Layer(Mask.fromCounts(prompt.counts, width, height), this.app.colour(id)));
        this.app.layerOf.set(id, prompt);
      }
    }
  }

  paint(context) {
    const { app } = this, { stage, tools } = app;
    if (!app.clip || app.shown === null) return;
    const showTags = byId("tags").checked;
    const tags = [];
    if (!app.hidden) {
      const ids = [...new Set([...app.clip.ids, ...app.layers.keys()])].sort((a, b) => (a === app.active) - (b === app.active) || a - b);
      for (const id of ids) {
        const colour = app.colour(id), width = id === app.active ? 2.4 : 1.6;
        const prompt = app.clip.prompt(id, app.shown);
        const layer = app.layers.get(id);
        const name = app.labelOf(id) ? `${id} ${app.labelOf(id)}` : String(id);
        if (layer) {
          context.globalAlpha = Number(byId("opacity").value) / 100;
          context.imageSmoothingEnabled = false;
          context.drawImage(layer.canvas, 0, 0);
          context.globalAlpha = 1;
          if (byId("outlines").checked && !(tools.drag?.stroke && tools.drag.id === id)) strokeTwice(context, stage, layer.outline(), colour, width);
          const box = layer.tight();
          if (box) tags.push([box.x0, box.y0, name, colour]);
        } else if (prompt?.kind === "box") {
          const moving = tools.drag?.box && tools.drag.handle && tools.drag.id === id;
          const box = moving ? tools.boxOf(tools.drag) : prompt.box;
          if (box) {
            this.#box(context, box, colour, width, id === app.active && tools.name === "box");
            tags.push([box[0], box[1], name, colour]);
          }
        } else if (prompt?.kind === "points") {
          for (const [x, y, label] of prompt.points) this.#point(context, x, y, label, colour);
        }
      }
      this.#proposals(context, tags);
    }
    if (tools.drag?.box && tools.drag.fresh) {
      const box = tools.boxOf(tools.drag);
      if (box) this.#box(context, box, app.colour(tools.drag.id), 2.4, false);
    }
    this.#polygon(context);
    if (showTags) for (const one of tags) tag(context, stage, ...one);
    this.#brush(context);
  }

  #box(context, [x, y, width, height], colour, line, handles) {
    const path = new Path2D();
    path.rect(x, y, width, height);
    context.globalAlpha = 0.12;
    context.fillStyle = colour;
    context.fill(path);
    context.globalAlpha = 1;
    strokeTwice(context, this.app.stage, path, colour, line);
    if (!handles) return;
    const half = (HANDLE - 2.5) / this.app.stage.scale;
    context.fillStyle = "#ffffff";
    for (const px of [x, x + width / 2, x + width]) {
      for (const py of [y, y + height / 2, y + height]) {
        if (px === x + width / 2 && py === y + height / 2) continue;
        const knob = new Path2D();
        knob.rect(px - half, py - half, 2 * half, 2 * half);
        strokeTwice(context, this.app.stage, knob, colour, 1.5);
        context.fill(knob);
      }
    }
  }

  #point(context, x, y, label, colour) {
    const path = new Path2D();
    path.arc(x, y, 5 / this.app.stage.scale, 0, 2 * Math.PI);
    context.fillStyle = label ? colour : "#000000";
    context.fill(path);
    strokeTwice(context, this.app.stage, path, label ? "#ffffff" : colour, 1.5);
  }

  #proposals(context, tags) {
    const { app } = this;
    app.proposals.forEach((proposal, index) => {
      const on = index === app.hovered;
      // Masks of an earlier run have the colours of their objects.
      const colour = proposal.object_id ? app.colour(proposal.object_id) : "#ffffff";
      if (on) {
        const layer = (proposal.layer ??= new Layer(proposal.mask, colour));
        context.globalAlpha = 0.3;
        context.drawImage(layer.canvas, 0, 0);
        context.globalAlpha = 1;
        const box = layer.tight();
        if (box) tags.push([box.x0, box.y0, `${proposal.title} ${proposal.score.toFixed(2)}`, colour]);
      }
      if (on || app.tools.name === "select") strokeTwice(context, app.stage, proposal.path, colour, on ? 2.2 : 1.3, on ? [] : [4, 4]);
    });
  }

  #polygon(context) {
    const { points, pointer } = this.app.tools;
    if (!points.length) return;
    const path = new Path2D();
    points.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
    if (pointer) path.lineTo(...pointer);
    const colour = this.app.colour(this.app.active);
    context.globalAlpha = 0.15;
    context.fillStyle = colour;
    context.fill(path);
    context.globalAlpha = 1;
    strokeTwice(context, this.app.stage, path, colour, 1.8);
    points.forEach(([x, y], i) => {
      const dot = new Path2D();
      dot.arc(x, y, (i === 0 && points.length > 2 ? 6 : 3.5) / this.app.stage.scale, 0, 2 * Math.PI);
      context.fillStyle = "#ffffff";
      strokeTwice(context, this.app.stage, dot, colour, 1.5);
      context.fill(dot);
    });
  }

  #brush(context) {
    const { name, pointer, size, space } = this.app.tools;
    if ((name !== "brush" && name !== "eraser") || !pointer || space || !this.app.ready()) return;
    const path = new Path2D();
    path.arc(pointer[0], pointer[1], Math.max(size / 2, 1.5 / this.app.stage.scale), 0, 2 * Math.PI);
    strokeTwice(context, this.app.stage, path, name === "eraser" ? "#ffffff" : this.app.colour(this.app.active), 1.5, name === "eraser" ? [4, 3] : []);
  }
}
