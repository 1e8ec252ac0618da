// Talking to the server. The token comes in the address, is kept for this tab only, and goes out in a header.

const KEY = "pick-token";
const address = new URL(location.href);
if (address.searchParams.has("token")) {
  sessionStorage.setItem(KEY, address.searchParams.get("token"));
  address.searchParams.delete("token");
  history.replaceState(null, "", address.pathname + address.hash);
}

export class Failure extends Error {
  constructor(status, told) {
    super(told.error ?? "the server did not answer");
    this.status = status; // 0: no answer
    this.remedy = told.remedy ?? "";
    this.kind = told.kind ?? "";
  }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      ...options,
      headers: { "X-Pick-Token": sessionStorage.getItem(KEY) ?? "", ...options.headers },
      credentials: "omit",
      redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, { error: "The server does not answer.", remedy: "Is jobs.pick still running?" });
  }
  if (answer.ok) return answer;
  let told = {};
  try { told = await answer.json(); } catch { /* not from us */ }
  throw new Failure(answer.status, told);
}

export const manifest = async () => (await ask("/api/manifest")).json();

export const video = async (key) => (await ask(`/api/videos/${key}`)).json();

export const proposals = async (key, frame) => (await (await ask(`/api/videos/${key}/frames/${frame}/proposals`)).json()).proposals;

export const edit = async (key, request) => (
  await ask(`/api/videos/${key}`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request),
  })
).json();

export async function frame(key, number, signal) {
  const answer = await ask(`/api/videos/${key}/frames/${number}`, { signal });
  const seconds = answer.headers.get("X-Frame-Time");
  const bitmap = await createImageBitmap(await answer.blob());
  return { bitmap, seconds: seconds === null ? null : Number(seconds) };
}
