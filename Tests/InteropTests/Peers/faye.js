'use strict';
// The interoperation peer on node's `faye-websocket`. Run it with NODE_PATH=/usr/share/nodejs
// (Debian's node-faye-websocket).
//
//   node faye.js serve         echo server on 127.0.0.1; prints its port; exits when its stdin ends
//   node faye.js connect URL   runs the script of messages against URL; exits 0 when every echo matched
//
// The library sends no fragmented messages, so its `connect` leaves that one out.

const http = require('http');
const WebSocket = require('faye-websocket');

const PROTOCOLS = ['chat.v2', 'chat.v1']; // what a server picks, most wanted first
const TIME_LIMIT = 20; // seconds, for `connect`

/** The close code that the path asks for; null when it asks for none, NaN when it can't be sent. */
function closeCode(path) {
  if (!path.startsWith('/close/')) return null;
  const code = /^\d{4}$/.test(path.slice(7)) ? Number(path.slice(7)) : NaN;
  const sendable = (code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code)) || (code >= 3000 && code <= 4999);
  return sendable ? code : NaN;
}

// ---------------------------------------------------------------- serve

function serve() {
  const server = http.createServer((request, response) => {
    response.writeHead(426, { Upgrade: 'websocket', Connection: 'close' });
    response.end();
  });
  server.on('upgrade', (request, stream, head) => {
    const code = closeCode(request.url);
    if (!WebSocket.isWebSocket(request) || Number.isNaN(code)) {
      stream.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
      return;
    }
    // The library picks by the client's order: it is told only the one protocol to pick.
    const offered = (request.headers['sec-websocket-protocol'] || '').split(',').map((name) => name.trim());
    const picked = PROTOCOLS.find((name) => offered.includes(name));
    const socket = new WebSocket(request, stream, head, picked ? [picked] : []);
    socket.on('error', (event) => process.stderr.write(`faye.js: ${event.message}\n`));
    // socket.close() takes no codes but 1000 and 3000...4999; the driver under it takes all.
    if (code !== null) return socket.on('open', () => socket._driver.close('bye', code));
    if (request.url === '/headers') socket.on('open', () => socket.send(request.headers['x-test'] || ''));
    socket.on('message', (event) => socket.send(event.data));
  });
  server.listen(0, '127.0.0.1', () => process.stdout.write(`${server.address().port}\n`));
  for (const event of ['end', 'error', 'close']) process.stdin.on(event, () => process.exit(0));
  process.stdin.resume();
}

// ---------------------------------------------------------------- connect

let step = 'opening handshake';

function fail(message) {
  process.stderr.write(`faye.js: ${step}: ${message}\n`);
  process.exit(1);
}

/** What was received, in order: { kind, data } for messages and pongs, { kind: 'close', code, reason } at the end. */
class Inbox {
  items = [];
  waiting = null;
  push(item) {
    this.items.push(item);
    if (this.waiting) this.waiting();
  }
  async next() {
    while (this.items.length === 0) await new Promise((resolve) => { this.waiting = resolve; });
    return this.items.shift();
  }
  async expect(kind, data) {
    const item = await this.next();
    if (item.kind === 'close') fail(`expected ${kind}, got close ${item.code} "${item.reason}"`);
    if (item.kind !== kind) fail(`expected ${kind} of ${data.length} bytes, got ${item.kind} of ${item.data.length} bytes`);
    if (item.data.equals(data)) return;
    let at = 0;
    while (at < data.length && at < item.data.length && item.data[at] === data[at]) at += 1;
    fail(`${kind} of ${data.length} bytes came back with ${item.data.length} bytes, first different at byte ${at}`);
  }
}

function pattern(count) {
  const bytes = Buffer.alloc(count);
  for (let i = 0; i < count; i += 1) bytes[i] = (i * 7 + 3) % 251;
  return bytes;
}

async function connect(url) {
  setTimeout(() => fail(`time limit of ${TIME_LIMIT} seconds`), TIME_LIMIT * 1000);
  const socket = new WebSocket.Client(url, ['chat.v1', 'chat.v2'], { headers: { 'X-Test': 'interop' } });
  const inbox = new Inbox();
  socket.on('error', (event) => fail(event.message));
  socket.on('message', ({ data }) => {
    inbox.push(typeof data === 'string' ? { kind: 'text', data: Buffer.from(data) } : { kind: 'binary', data });
  });
  socket.on('close', (event) => inbox.push({ kind: 'close', code: event.code, reason: event.reason }));
  await new Promise((resolve, reject) => {
    socket.on('open', resolve);
    socket.on('close', (event) => reject(new Error(`closed with ${event.code}`)));
  });

  const finish = (code) => {
    process.stdout.write(`ok protocol=${socket.protocol || '-'} close=${code}\n`, () => process.exit(0));
  };
  const path = new URL(url).pathname;
  if (path.startsWith('/close/')) {
    step = 'close by the server';
    const item = await inbox.next();
    if (item.kind !== 'close') fail(`expected close, got ${item.kind}`);
    if (String(item.code) !== path.slice(7) || item.reason !== 'bye') fail(`got close ${item.code} "${item.reason}"`);
    return finish(item.code);
  }
  if (path === '/headers') {
    step = 'request header';
    await inbox.expect('text', Buffer.from('interop'));
  }

  for (const text of ['', 'hello', 'grüße 🎈']) {
    step = `text "${text}"`;
    socket.send(text);
    await inbox.expect('text', Buffer.from(text));
  }
  for (const count of [0, 1, 125, 126, 127, 65535, 65536, 1000003]) {
    step = `binary of ${count} bytes`;
    socket.send(pattern(count));
    await inbox.expect('binary', pattern(count));
  }
  step = 'text of 70000 characters';
  socket.send('é'.repeat(70000));
  await inbox.expect('text', Buffer.from('é'.repeat(70000)));

  step = 'ping'; // the library calls back for a pong with the same payload only
  socket.ping('are you there', () => inbox.push({ kind: 'pong', data: Buffer.from('are you there') }));
  await inbox.expect('pong', Buffer.from('are you there'));

  const numbered = (i) => `message ${String(i).padStart(12, '0')}`;
  step = 'burst of 1000 texts';
  for (let i = 0; i < 1000; i += 1) socket.send(numbered(i));
  for (let i = 0; i < 1000; i += 1) {
    step = `text ${i} of the burst`;
    await inbox.expect('text', Buffer.from(numbered(i)));
  }

  step = 'close';
  socket.close(1000, 'done');
  const item = await inbox.next();
  if (item.kind !== 'close') fail(`expected close, got ${item.kind} of ${item.data.length} bytes`);
  if (item.code === 1006) fail('the connection ended without an answer to the close frame');
  finish(item.code);
}

const [mode, url, ...rest] = process.argv.slice(2);
if (mode === 'serve' && url === undefined) {
  serve();
} else if (mode === 'connect' && url !== undefined && rest.length === 0) {
  connect(url).catch((error) => fail(error.stack));
} else {
  process.stderr.write('usage: faye.js serve | connect URL\n');
  process.exit(2);
}
