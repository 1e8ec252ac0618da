// Small helpers around the document.

export const byId = (id) => document.getElementById(id);

// An element with properties, and with children (nodes or texts).
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "class") element.className = value;
    else if (key.startsWith("aria-") || key === "for") element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

export function clockTime(seconds) {
  const whole = Math.floor(seconds), ms = Math.floor((seconds - whole) * 1000 + 1e-6);
  const part = (value) => String(value).padStart(2, "0");
  return `${part(Math.floor(whole / 3600))}:${part(Math.floor(whole / 60) % 60)}:${part(whole % 60)}.${String(ms).padStart(3, "0")}`;
}

export const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
