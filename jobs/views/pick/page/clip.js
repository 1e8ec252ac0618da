// One video as the page knows it: its prompts, what is saved of them, undo and redo. It saves itself after each edit.
//
// A state is {objects: Map id -> {label, prompts: Map frame -> prompt}, complete: Set of frames}; states and prompts
// are never changed, only replaced, so that undo is to put an older state back. What has to be sent is the difference
// between the state that the server has and the present one.

import * as api from "./api.js";

const RETRY_MS = 3000;
const MOST_UNDO = 200;

export class Clip extends EventTarget {
  constructor(told) {
    super();
    this.key = told.key;
    this.undone = [];
    this.done = [];
    this.busy = false;
    this.trouble = null;
    this.take(told);
  }

  // Takes over what the server says. Edits that were not saved are lost.
  take(told) {
    this.told = told;
    this.revision = told.revision;
    this.others = told.items.filter((item) => item.kind === "other");
    this.suggested = told.items.filter((item) => item.kind === "suggested");
    const objects = new Map();
    const complete = new Set();
    for (const item of told.items) {
      if (item.kind === "other" || item.kind === "suggested") continue;
      if (!objects.has(item.object_id)) {
        objects.set(item.object_id, { label: told.labels[item.object_id] ?? "", prompts: new Map() });
      }
      objects.get(item.object_id).prompts.set(item.frame, promptOf(item));
      if (item.complete) complete.add(item.frame);
    }
    this.state = this.saved = { objects, complete };
    this.trouble = null;
    this.changed();
  }

  get unsaved() { return this.busy || differences(this.saved, this.state).length > 0; }
  get ids() { return [...this.state.objects.keys()].sort((a, b) => a - b); }

  prompt(id, frame) { return this.state.objects.get(id)?.prompts.get(frame) ?? null; }
  label(id) { return this.state.objects.get(id)?.label ?? ""; }

  // frame -> ids, ascending
  framesWithPrompts() {
    const frames = new Map();
    for (const id of this.ids) {
      for (const frame of this.state.objects.get(id).prompts.keys()) frames.set(frame, [...(frames.get(frame) ?? []), id]);
    }
    return new Map([...frames].sort((a, b) => a[0] - b[0]));
  }

  // Frames on which jobs.review would like a prompt and that have none yet: [{frame, object_id, message}].
  openSuggestions() {
    return this.suggested.filter(({ frame, object_id: id }) => (
      id ? !this.prompt(id, frame) : ![...this.state.objects.values()].some((object) => object.prompts.has(frame))
    ));
  }

  setPrompt(id, frame, prompt) {
    this.#edit(frame, (objects) => {
      const old = objects.get(id) ?? { label: "", prompts: new Map() };
      const prompts = new Map(old.prompts);
      if (prompt) prompts.set(frame, prompt);
      else prompts.delete(frame);
      if (prompts.size) objects.set(id, { ...old, prompts });
      else objects.delete(id);
    });
  }

  removeObject(id, frame) { this.#edit(frame, (objects) => objects.delete(id)); }

  setLabel(id, frame, label) {
    const old = this.state.objects.get(id);
    if (old && old.label !== label) this.#edit(frame, (objects) => objects.set(id, { ...old, label }));
  }

  setComplete(frame, complete) {
    const frames = new Set(this.state.complete);
    if (complete) frames.add(frame);
    else frames.delete(frame);
    this.#push({ ...this.state, complete: frames }, frame);
  }

  undo() { return this.#move(this.done, this.undone); }
  redo() { return this.#move(this.undone, this.done); }

  // An edit that the server alone can do: everything is saved first, and read again afterwards.
  async onServer(request) {
    await this.settled();
    this.busy = true;
    try {
      const positioned = request.message === undefined ? request : this.#placed(await api.video(this.key), request);
      await api.edit(this.key, { ...positioned, revision: this.revision });
      this.done = [];
      this.undone = [];
      this.take(await api.video(this.key));
    } finally {
      this.busy = false;
      this.changed();
    }
  }

  // Resolves once everything is saved; rejects where it cannot be.
  async settled() {
    while (this.unsaved) {
      if (this.trouble) throw this.trouble;
      await new Promise((resolve) => this.addEventListener("change", resolve, { once: true }));
    }
  }

  changed() { this.dispatchEvent(new Event("change")); }

  #placed(told, request) {
    this.revision = told.revision;
    const item = told.items.find((one) => one.kind === "other" && one.message === request.message);
    if (!item) throw new api.Failure(409, { error: "That prompt is gone already." });
    return { do: request.do, position: item.position };
  }

  #edit(frame, change) {
    const objects = new Map(this.state.objects);
    change(objects);
    this.#push({ ...this.state, objects }, frame);
  }

  #push(state, frame) {
    const frames = new Set([...state.objects.values()].flatMap((object) => [...object.prompts.keys()]));
    this.done.push({ state: this.state, frame });
    if (this.done.length > MOST_UNDO) this.done.shift();
    this.undone = [];
    this.state = { ...state, complete: new Set([...state.complete].filter((one) => frames.has(one))) };
    this.changed();
    this.#save();
  }

  #move(from, to) {
    const entry = from.pop();
    if (!entry) return null;
    to.push({ state: this.state, frame: entry.frame });
    this.state = entry.state;
    this.changed();
    this.#save();
    return entry.frame;
  }

  async #save() {
    if (this.busy) return;
    this.busy = true;
    try {
      for (;;) {
        const [next] = differences(this.saved, this.state);
        if (!next) break;
        this.changed();
        const summary = await api.edit(this.key, { ...next.request, revision: this.revision });
        this.revision = summary.revision;
        this.told = { ...this.told, ...summary };
        this.saved = next.saved;
        this.trouble = null;
        this.dispatchEvent(new CustomEvent("saved", { detail: summary }));
      }
    } catch (error) {
      this.trouble = error;
      this.dispatchEvent(new CustomEvent("trouble", { detail: error }));
      if (error.kind === "conflict" || error.status === 400 || error.status === 413) await this.#giveUp();
      else setTimeout(() => { if (this.trouble === error) this.#save(); }, RETRY_MS);
    } finally {
      this.busy = false;
      this.changed();
    }
  }

  // What the server refuses for good is not kept on the page as if it were saved.
  async #giveUp() {
    try {
      const told = await api.video(this.key);
      this.done = [];
      this.undone = [];
      this.take(told);
    } catch { /* the trouble stays; the next edit tries again */ }
  }
}

function promptOf(item) {
  const { kind, counts, box, points, extra } = item;
  return { kind, ...(counts && { counts }), ...(box && { box }), ...(points && { points }), ...(extra && { extra }) };
}

// What to send, one after the other, and what is saved after each: prompts first, as names need an object.
function differences(saved, state) {
  const found = [];
  const ids = new Set([...saved.objects.keys(), ...state.objects.keys()]);
  for (const id of ids) {
    const old = saved.objects.get(id), now = state.objects.get(id);
    const frames = new Set([...(now?.prompts.keys() ?? []), ...(old?.prompts.keys() ?? [])]);
    for (const frame of frames) {
      const before = old?.prompts.get(frame), after = now?.prompts.get(frame);
      if (before === after) continue;
      const { kind, ...content } = after ?? {};
      found.push({
        request: { do: "prompt", frame, object_id: id, ...content },
        saved: withPrompt(saved, id, frame, after),
      });
    }
    if (now && old && now.label !== old.label) {
      const objects = new Map(saved.objects).set(id, { ...old, label: now.label });
      found.push({ request: { do: "label", object_id: id, label: now.label || null }, saved: { ...saved, objects } });
    }
  }
  if (found.length) return found;
  for (const frame of new Set([...saved.complete, ...state.complete])) {
    const complete = state.complete.has(frame);
    if (complete === saved.complete.has(frame)) continue;
    const frames = new Set(saved.complete);
    if (complete) frames.add(frame);
    else frames.delete(frame);
    found.push({ request: { do: "complete", frame, complete }, saved: { ...saved, complete: frames } });
  }
  return found;
}

function withPrompt(saved, id, frame, prompt) {
  const objects = new Map(saved.objects);
  const old = objects.get(id) ?? { label: "", prompts: new Map() };
  const prompts = new Map(old.prompts);
  if (prompt) prompts.set(frame, prompt);
  else prompts.delete(frame);
  // The server forgets the name of an object that has no prompt left.
  if (prompts.size) objects.set(id, { ...old, prompts });
  else objects.delete(id);
  const left = [...objects.values()].some((object) => object.prompts.has(frame));
  const complete = left ? saved.complete : new Set([...saved.complete].filter((one) => one !== frame));
  return { objects, complete };
}
