// The echo of Node's `ws`, as Debian packages it (NODE_PATH=/usr/share/nodejs). Prints `PORT <number>` and serves until
// it is killed.
'use strict';
const { WebSocketServer } = require('ws');

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: Number(process.argv[2] ?? 0),
  perMessageDeflate: false,
  maxPayload: 1 << 30,
});
server.on('listening', () => console.log(`PORT ${server.address().port}`));
server.on('connection', (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on('error', (error) => console.error(`node-ws: ${error.message}`));
});
