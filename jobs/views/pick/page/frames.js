// Frames of the video on show: fetched one at a time, the one asked for last first, a few kept.

import * as api from "./api.js";

const KEPT_PIXELS = 80e6;
const AHEAD = [1, 2, -1, 3];

export class Frames {
  constructor(clip) {
    this.clip = clip;
    this.kept = new Map(); // frame -> {bitmap, seconds}, least recently used first
    this.waiting = null;
    this.working = false;
    this.closed = false;
    this.prefetching = null;
  }

  // The frame, or null where another was asked for in the meantime. Rejects with Failure.
  get(frame) {
    const kept = this.kept.get(frame);
    if (kept) {
      this.waiting?.resolve(null);
      this.waiting = null;
      this.kept.delete(frame);
      this.kept.set(frame, kept);
      this.#ahead(frame);
      return Promise.resolve(kept);
    }
    this.prefetching?.abort();
    return new Promise((resolve, reject) => {
      this.waiting?.resolve(null);
      this.waiting = { frame, resolve, reject };
      this.#work();
    });
  }

  close() {
    this.closed = true;
    this.prefetching?.abort();
    this.waiting?.resolve(null);
    this.waiting = null;
    for (const { bitmap } of this.kept.values()) bitmap.close();
    this.kept.clear();
  }

  async #work() {
    if (this.working) return;
    this.working = true;
    let last = null;
    while (this.waiting) {
      const { frame, resolve, reject } = this.waiting;
      try {
        const found = await api.frame(this.clip.key, frame);
        if (this.closed) found.bitmap.close();
        else this.#keep(frame, found);
        // What came is shown even where the pointer has moved on: scrubbing would show nothing otherwise.
        resolve(this.closed ? null : found);
        last = frame;
      } catch (error) {
        reject(error);
      }
      if (this.waiting?.frame === frame) this.waiting = null;
    }
    this.working = false;
    if (last !== null) this.#ahead(last);
  }

  #keep(frame, found) {
    this.kept.set(frame, found);
    const each = found.bitmap.width * found.bitmap.height;
    const most = Math.max(6, Math.floor(KEPT_PIXELS / each));
    while (this.kept.size > most) {
      const [oldest, { bitmap }] = this.kept.entries().next().value;
      this.kept.delete(oldest);
      // The one on show may be drawn again at any time; it is freed with the page's memory.
      if (bitmap !== this.shown) bitmap.close();
    }
  }

  async #ahead(frame) {
    this.prefetching?.abort();
    const control = (this.prefetching = new AbortController());
    for (const step of AHEAD) {
      const next = frame + step;
      if (next < 0 || next >= this.clip.told.frames || this.kept.has(next)) continue;
      try {
        const found = await api.frame(this.clip.key, next, control.signal);
        if (control.signal.aborted || this.closed) return found.bitmap.close();
        this.#keep(next, found);
      } catch {
        return;
      }
    }
  }
}
