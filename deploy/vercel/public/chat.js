// A conversation over requests that all end in time: what a stream was cut off from goes on in the next one.
const $ = (id) => document.getElementById(id);
const RUNS = ["running", "queued"];
let session = null;
let token = null; // to go on with
let seen = 0; // the last entry that landed
let forming = null; // the paragraph of the answer that is being made

function show(kind, text) {
  const line = document.createElement("p");
  line.className = kind;
  line.textContent = text;
  return $("log").appendChild(line);
}

function land(event) {
  if (event.seq <= seen) return;
  seen = event.seq;
  forming?.remove();
  forming = null;
  for (const block of event.content ?? []) {
    if (block.type === "text") show(event.type, block.text);
    if (block.type === "tool_use") show("note", `… ${block.name}`);
  }
  if (event.type === "status" && event.stop && event.stop.reason !== "end_turn") show("note", `(${event.stop.reason})`);
}

function hear(delta) {
  if (delta.seq <= seen) return;
  if (delta.type === "reset") forming?.remove(), (forming = null);
  if (delta.type === "text") (forming ??= show("assistant forming", "")).textContent += delta.text;
}

/** Send a request and read its frames. Returns how the session was left; null where the connection was lost. */
async function stream(path, body, key) {
  const headers = { "Content-Type": "application/json", Accept: "text/event-stream", "Idempotency-Key": key };
  if ($("token").value) headers.Authorization = `Bearer ${$("token").value}`;
  try {
    const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
    if (!answer.ok || !answer.headers.get("Content-Type").startsWith("text/event-stream")) {
      const told = await answer.json();
      if (answer.status >= 500) return null;
      if (told.continuation_token) token = told.continuation_token;
      if (answer.ok) return told.status;
      throw new Error(told.detail ?? told.title);
    }
    let rest = "";
    for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) {
      const frames = (rest + piece).split("\n\n");
      rest = frames.pop();
      for (const frame of frames) {
        const name = /^event: (.*)$/m.exec(frame)?.[1];
        const data = /^data: (.*)$/m.exec(frame)?.[1];
        if (!name || !data) continue;
        const told = JSON.parse(data);
        if (name === "turn") [session, token] = [told.session_id, told.continuation_token ?? token];
        else if (name === "delta") hear(told);
        else if (name === "end") return told.status;
        else land(told);
      }
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // TypeError: the network's
  }
  return null;
}

async function say(input) {
  const [path, body] = session ? [`/v1/sessions/${session}/turns`, { input }] : ["/v1/sessions", { agent: $("agent").value, input }];
  const key = crypto.randomUUID();
  let status = await stream(path, body, key);
  for (let lost = 0; status === null || RUNS.includes(status); ) {
    lost = status === null ? lost + 1 : 0;
    if (lost > 8) throw new Error("The connection is lost; send again to go on.");
    if (lost) await new Promise((done) => setTimeout(done, 250 * 2 ** lost));
    status = token ? await stream("/v1/continue", { continuation_token: token }, crypto.randomUUID()) : await stream(path, body, key);
  }
}

document.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const input = $("input").value.trim();
  if (!input) return;
  $("input").value = "";
  try {
    await say(input);
  } catch (error) {
    show("note", error.message);
  }
});
