// The echo of Node's `ws`, as Debian packages it (NODE_PATH=/usr/share/nodejs). Prints `PORT <number>` and serves until
// it is killed. With `compress` it agrees to permessage-deflate, without context takeover.
'use strict';
const { WebSocketServer } = require('ws');

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  perMessageDeflate: process.argv[2] === 'compress' && {
    serverNoContextTakeover: true,
    clientNoContextTakeover: true,
    threshold: 0,
    zlibDeflateOptions: { level: 6, memLevel: 8 },
  },
  maxPayload: 1 << 30,
});
server.on('listening', () => console.log(`PORT ${server.address().port}`));
server.on('connection', (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on('error', (error) => console.error(`node-ws: ${error.message}`));
});
