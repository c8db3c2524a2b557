// The Node application of the bench: the routes of the demo application, a cache, a backend, and faults.
// POST /fault?do=leak|lock|spin|files|forget|mend&rate=R plants one fault. It runs with --expose-gc, so that what leaked goes.
const crypto = require("crypto");
const fs = require("fs");
const http = require("http");

const backend = process.env.BACKEND;
const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
const block = Buffer.alloc(512);
const items = Array.from({ length: 4000 }, (_, i) => ({ key: "k" + i, text: `word${i % 97} `.repeat(80) }));
const cache = new Map();
let held = [];
let files = [];
let timer = null;
let slow = 0;
let forgets = false;
let queue = Promise.resolve();

function work(units) {
  let digest = Buffer.alloc(0);
  for (let i = 0; i < 40 * units; i++) digest = crypto.createHash("sha256").update(block).update(digest).digest();
  return digest.toString("hex");
}

function ask(key) {
  if (!backend) return Promise.resolve();
  return new Promise((done) => {
    http.get(`http://${backend}/${key}`, { agent }, (res) => res.resume().on("end", done)).on("error", done);
  });
}

// locked waits for its turn; the fault is that each one holds the lock for a while.
function locked() {
  if (!slow) return Promise.resolve();
  return (queue = queue.then(() => new Promise((done) => setTimeout(done, slow * 1000))));
}

const render = (key, units) => JSON.stringify({ item: items[Number(key.slice(1)) % items.length], digest: work(units) });

async function item(key) {
  await ask(key);
  await locked();
  if (!cache.has(key) || forgets) cache.set(key, render(key, 60));
  work(1);
  return cache.get(key);
}

function burn(ms) {
  for (const end = performance.now() + ms; performance.now() < end;);
}

function mend() {
  clearInterval(timer);
  if (held.length) {
    held = [];
    global.gc();
    setTimeout(global.gc, 500);
  }
  files.forEach((fd) => fs.closeSync(fd));
  files = [];
  slow = 0;
  forgets = false;
}

function plant(action, rate) {
  switch (action) {
    case "leak": timer = setInterval(() => held.push(Buffer.alloc(rate / 10, 1)), 100); break;
    case "lock": slow = rate; break;
    case "spin": timer = setInterval(() => burn(50 * rate), 50); break;
    case "files": timer = setInterval(() => files.push(fs.openSync("/dev/null")), 1000 / rate); break;
    case "forget": forgets = true; break;
    default: mend();
  }
  return "{}";
}

async function answer(method, url, body) {
  const [, name, key] = url.pathname.split("/");
  switch (name) {
    case "healthz": return "ok";
    case "fault": return plant(url.searchParams.get("do"), Number(url.searchParams.get("rate")));
    case "search": {
      await locked();
      const found = items.slice(0, 400).filter((i) => i.text.includes(url.searchParams.get("q")));
      return JSON.stringify({ found: found.slice(0, 10).map((i) => i.key), digest: work(2) });
    }
    case "report":
      await locked();
      return "[" + Array.from({ length: 8 }, () => render(key, 4)).join() + "]";
  }
  if (method !== "POST") return item(key);
  crypto.createHash("sha256").update(body).digest();
  JSON.parse(body);
  work(2);
  await locked();
  return '{"noted": true}';
}

http.createServer((req, res) => {
  const parts = [];
  req.on("data", (d) => parts.push(d)).on("end", async () => {
    const out = await answer(req.method, new URL(req.url, "http://bench"), Buffer.concat(parts));
    res.writeHead(200, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(out) });
    res.end(out);
  });
}).listen(process.env.PORT, "127.0.0.1");
