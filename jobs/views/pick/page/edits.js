// What is done to objects and their prompts on the frame at hand. The clip saves; undo is the clip's.

import { plural } from "./dom.js";

export class Edits {
  constructor(app) { this.app = app; }

  newObject() {
    if (!this.app.clip) return;
    const unused = this.app.clip.ids.includes(this.app.active) ? Math.max(0, ...this.app.clip.ids) + 1 : this.app.active;
    this.app.activate(unused);
    this.app.say(`Object ${unused}: draw it with R, B or G.`);
  }

  // The object that a new box or proposal is for: the active one, or a new one where that has something here.
  targetForNew() {
    if (this.app.clip.prompt(this.app.active, this.app.frame)) this.app.active = Math.max(0, ...this.app.clip.ids) + 1;
    return this.app.active;
  }

  // The smallest object under a pixel, or null.
  objectAt([x, y]) {
    let best = null, least = Infinity;
    for (const id of this.app.clip.ids) {
      const prompt = this.app.clip.prompt(id, this.app.frame);
      const layer = this.app.layers.get(id);
      const box = prompt?.box;
      const inside = layer ? layer.mask.has(x, y) : box && x >= box[0] && y >= box[1] && x <= box[0] + box[2] && y <= box[1] + box[3];
      const area = layer ? layer.area() : box ? box[2] * box[3] : 0;
      if (inside && area < least) { best = id; least = area; }
    }
    return best;
  }

  setMask(id, mask) {
    const counts = mask.toCounts();
    if (counts.length < 2 && !this.#shows(id)) {
      this.app.clip.setPrompt(id, this.app.frame, null);
      this.app.forgetLayers(); // an erased mask of an object that is nowhere else is no prompt
      this.app.refresh();
      return;
    }
    const replaced = this.app.clip.prompt(id, this.app.frame)?.kind;
    const prompt = { kind: "mask", counts };
    if (this.app.layers.get(id)?.mask === mask) this.app.layerOf.set(id, prompt); // painted: on the canvas already
    this.app.clip.setPrompt(id, this.app.frame, prompt);
    this.#drawn(id);
    if (replaced === "box") this.app.say(`The box of object ${id} became a mask. Ctrl+Z brings it back.`);
  }

  setBox(id, box) {
    this.app.clip.setPrompt(id, this.app.frame, { kind: "box", box });
    this.#drawn(id);
  }

  setLabel(id, label, clip = this.app.clip) {
    if (clip.ids.includes(id)) clip.setLabel(id, this.app.frame, label);
    else this.app.pendingLabels.set(`${clip.key}/${id}`, label);
    this.app.refresh();
  }

  remove() {
    if (this.app.tools.backspace() || !this.app.ready()) return;
    if (!this.app.clip.prompt(this.app.active, this.app.frame)) this.app.say(`Object ${this.app.active} has no prompt on this frame.`);
    else this.app.clip.setPrompt(this.app.active, this.app.frame, null);
  }

  removeObject(id) {
    if (!this.app.clip?.ids.includes(id)) return;
    const frames = this.app.clip.state.objects.get(id).prompts.size;
    this.app.clip.removeObject(id, this.app.frame);
    this.app.say(`Object ${id} removed from ${plural(frames, "frame")}. Ctrl+Z brings it back.`);
  }

  absent() {
    if (!this.app.ready()) return;
    if (!this.#shows(this.app.active)) this.app.say(`Show object ${this.app.active} on another frame first.`);
    else this.app.clip.setPrompt(this.app.active, this.app.frame, { kind: "mask", counts: [this.app.stage.size.width * this.app.stage.size.height] });
  }

  toggleComplete() {
    if (!this.app.ready()) return this.app.refresh(); // the box shows what is saved
    if (!this.app.clip.framesWithPrompts().has(this.app.frame)) this.app.say("Draw an object on this frame first.");
    else this.app.clip.setComplete(this.app.frame, !this.app.clip.state.complete.has(this.app.frame));
  }

  async changeId(id, to) {
    if (this.app.clip.ids.includes(to)) {
      this.app.say(`There is an object ${to} already.`, true);
      this.app.refresh();
      return;
    }
    await this.#onServer({ do: "id", object_id: id, to });
    this.app.activate(to);
  }

  async removeRecord(item) { await this.#onServer({ do: "record", message: item.message }); }

  async #onServer(request) {
    try {
      await this.app.clip.onServer(request);
      this.app.forgetLayers();
      this.app.refresh();
      this.app.look();
    } catch (error) {
      this.app.trouble(error);
    }
  }

  // Whether the object is seen on another frame: only then can it be said to be absent here.
  #shows(id) {
    const prompts = this.app.clip.state.objects.get(id)?.prompts ?? new Map();
    return [...prompts].some(([frame, prompt]) => frame !== this.app.frame && (prompt.kind !== "mask" || prompt.counts.length > 1));
  }

  #drawn(id) {
    this.app.active = id;
    const key = `${this.app.clip.key}/${id}`;
    const label = this.app.pendingLabels.get(key);
    if (label) this.app.clip.setLabel(id, this.app.frame, label);
    this.app.pendingLabels.delete(key);
    this.app.refresh();
  }

  accept(index) {
    const proposal = this.app.proposals[index];
    if (!proposal || !this.app.ready()) return;
    const id = proposal.object_id ?? this.targetForNew();
    this.app.clip.setPrompt(id, this.app.frame, { kind: "mask", counts: proposal.counts });
    this.#drawn(id);
    if (!this.app.labelOf(id) && proposal.name) this.setLabel(id, proposal.name);
    this.app.hover(-1);
  }
}
