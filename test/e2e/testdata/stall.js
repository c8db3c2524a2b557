// A server whose event loop stalls for good after GET /plant-stall.
const http = require("http");
http.createServer((req, res) => {
  if (req.url === "/plant-stall") {
    res.end("stalling\n", () => setImmediate(() => { for (;;); }));
    return;
  }
  res.end(JSON.stringify({ url: req.url, pid: process.pid }) + "\n");
}).listen(process.env.PORT, "127.0.0.1");
