'use strict';
// The interoperation peer on node's `ws`. Run it with NODE_PATH=/usr/share/nodejs (Debian's node-ws).
//
//   node ws.js serve         echo server on 127.0.0.1; prints its port; exits when its stdin ends
//   node ws.js connect URL   runs the script of messages against URL; exits 0 when every echo matched

const WebSocket = require('ws');

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
  const server = new WebSocket.Server({
    host: '127.0.0.1',
    port: 0,
    handleProtocols: (offered) => PROTOCOLS.find((name) => offered.has(name)) || false,
    verifyClient: (info, answer) => {
      if (Number.isNaN(closeCode(info.req.url))) answer(false, 400);
      else answer(true);
    },
  });
  server.on('listening', () => process.stdout.write(`${server.address().port}\n`));
  server.on('connection', (socket, request) => {
    socket.on('error', (error) => process.stderr.write(`ws.js: ${error.message}\n`));
    const code = closeCode(request.url);
    if (code !== null) return socket.close(code, 'bye');
    if (request.url === '/headers') socket.send(request.headers['x-test'] || '');
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  for (const event of ['end', 'error', 'close']) process.stdin.on(event, () => process.exit(0));
  process.stdin.resume();
}

// ---------------------------------------------------------------- connect

let step = 'opening handshake';

function fail(message) {
  process.stderr.write(`ws.js: ${step}: ${message}\n`);
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
  const socket = new WebSocket(url, ['chat.v1', 'chat.v2'], { headers: { 'X-Test': 'interop' } });
  const inbox = new Inbox();
  socket.on('error', (error) => fail(error.message));
  socket.on('message', (data, isBinary) => inbox.push({ kind: isBinary ? 'binary' : 'text', data }));
  socket.on('pong', (data) => inbox.push({ kind: 'pong', data }));
  socket.on('close', (code, reason) => inbox.push({ kind: 'close', code, reason: reason.toString() }));
  await new Promise((resolve) => socket.on('open', resolve));

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

  step = 'fragmented text'; // the first cut is inside the balloon's four bytes
  const whole = Buffer.from('grüße 🎈 in drei Stücken');
  const cut = whole.indexOf(Buffer.from('🎈')) + 2;
  socket.send(whole.subarray(0, cut), { binary: false, fin: false });
  socket.send(whole.subarray(cut, cut + 10), { binary: false, fin: false });
  socket.send(whole.subarray(cut + 10), { binary: false, fin: true });
  await inbox.expect('text', whole);

  step = 'ping';
  socket.ping('are you there');
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
  process.stderr.write('usage: ws.js serve | connect URL\n');
  process.exit(2);
}
