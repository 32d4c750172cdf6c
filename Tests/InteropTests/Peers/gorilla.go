// The interoperation peer on Go's gorilla/websocket (Debian's golang-github-gorilla-websocket-dev);
// `prepare` builds it.
//
//	gorilla serve         echo server on 127.0.0.1; prints its port; exits when its stdin ends
//	gorilla connect URL   runs the script of messages against URL; exits 0 when every echo matched
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

const timeLimit = 20 * time.Second // for `connect`

// A client of this library sends a message that is longer than its write buffer in fragments of the
// buffer's size. This one holds 65536 bytes, so that only the longer ones are fragmented, and is odd,
// so that fragments end inside characters of two bytes.
const writeBufferSize = 65537

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "serve":
		serve()
	case len(os.Args) == 3 && os.Args[1] == "connect":
		connect(os.Args[2])
	default:
		fmt.Fprintln(os.Stderr, "usage: gorilla serve | connect URL")
		os.Exit(2)
	}
}

// ---------------------------------------------------------------- serve

// closeCode tells which close code the path asks for, whether it asks for one, and whether that can be sent.
func closeCode(path string) (code int, asked bool, sendable bool) {
	if !strings.HasPrefix(path, "/close/") {
		return 0, false, false
	}
	code, err := strconv.Atoi(strings.TrimPrefix(path, "/close/"))
	if err != nil {
		return 0, true, false
	}
	sendable = code >= 1000 && code <= 1014 && (code < 1004 || code > 1006) || code >= 3000 && code <= 4999
	return code, true, sendable
}

func serve() {
	upgrader := websocket.Upgrader{
		Subprotocols: []string{"chat.v2", "chat.v1"}, // most wanted first
		CheckOrigin:  func(*http.Request) bool { return true },
	}
	handler := func(w http.ResponseWriter, r *http.Request) {
		code, closes, sendable := closeCode(r.URL.Path)
		if closes && !sendable {
			http.Error(w, "not a code that can be sent", http.StatusBadRequest)
			return
		}
		socket, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			fmt.Fprintln(os.Stderr, "gorilla:", err)
			return
		}
		defer socket.Close()
		if closes {
			socket.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, "bye"), time.Now().Add(timeLimit))
			socket.SetReadDeadline(time.Now().Add(timeLimit))
			for err == nil {
				_, _, err = socket.ReadMessage()
			}
			return
		}
		if r.URL.Path == "/headers" {
			err = socket.WriteMessage(websocket.TextMessage, []byte(r.Header.Get("X-Test")))
		}
		for err == nil {
			var kind int
			var data []byte
			kind, data, err = socket.ReadMessage()
			if err == nil {
				err = socket.WriteMessage(kind, data)
			}
		}
		if !websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived) {
			fmt.Fprintln(os.Stderr, "gorilla:", err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "gorilla:", err)
		os.Exit(1)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go http.Serve(listener, http.HandlerFunc(handler))
	io.Copy(io.Discard, os.Stdin)
}

// ---------------------------------------------------------------- connect

var step atomic.Value

func fail(format string, values ...interface{}) {
	fmt.Fprintf(os.Stderr, "gorilla: %s: %s\n", step.Load(), fmt.Sprintf(format, values...))
	os.Exit(1)
}

// What was received: a message, a pong, or, last, the error that ended the reading.
type item struct {
	kind string
	data []byte
	err  error
}

func read(socket *websocket.Conn, inbox chan<- item) {
	socket.SetPongHandler(func(data string) error {
		inbox <- item{kind: "pong", data: []byte(data)}
		return nil
	})
	for {
		kind, data, err := socket.ReadMessage()
		if err != nil {
			inbox <- item{kind: "end", err: err}
			return
		}
		if kind == websocket.TextMessage {
			inbox <- item{kind: "text", data: data}
		} else {
			inbox <- item{kind: "binary", data: data}
		}
	}
}

func expect(inbox <-chan item, kind string, data []byte) {
	got := <-inbox
	if got.err != nil {
		fail("expected %s, got %v", kind, got.err)
	}
	if got.kind != kind {
		fail("expected %s of %d bytes, got %s of %d bytes", kind, len(data), got.kind, len(got.data))
	}
	if bytes.Equal(got.data, data) {
		return
	}
	at := 0
	for at < len(data) && at < len(got.data) && data[at] == got.data[at] {
		at++
	}
	fail("%s of %d bytes came back with %d bytes, first different at byte %d", kind, len(data), len(got.data), at)
}

// expectClose returns the close frame that was received, with the code 1005 for one without a code.
func expectClose(inbox <-chan item) *websocket.CloseError {
	got := <-inbox
	if got.err == nil {
		fail("expected close, got %s of %d bytes", got.kind, len(got.data))
	}
	frame, ok := got.err.(*websocket.CloseError)
	if !ok || frame.Code == websocket.CloseAbnormalClosure {
		fail("the connection ended without a close frame: %v", got.err)
	}
	return frame
}

func must(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func pattern(count int) []byte {
	data := make([]byte, count)
	for i := range data {
		data[i] = byte((i*7 + 3) % 251)
	}
	return data
}

func connect(address string) {
	step.Store("opening handshake")
	time.AfterFunc(timeLimit, func() { fail("time limit of %v", timeLimit) })
	target, err := url.Parse(address)
	must(err)
	dialer := websocket.Dialer{Subprotocols: []string{"chat.v1", "chat.v2"}, WriteBufferSize: writeBufferSize}
	socket, _, err := dialer.Dial(address, http.Header{"X-Test": {"interop"}})
	must(err)
	inbox := make(chan item, 2000)
	go read(socket, inbox)

	finish := func(code int) {
		protocol := socket.Subprotocol()
		if protocol == "" {
			protocol = "-"
		}
		fmt.Printf("ok protocol=%s close=%d\n", protocol, code)
	}
	if strings.HasPrefix(target.Path, "/close/") {
		step.Store("close by the server")
		frame := expectClose(inbox)
		if strconv.Itoa(frame.Code) != strings.TrimPrefix(target.Path, "/close/") || frame.Text != "bye" {
			fail("got close %d %q", frame.Code, frame.Text)
		}
		finish(frame.Code)
		return
	}
	if target.Path == "/headers" {
		step.Store("request header")
		expect(inbox, "text", []byte("interop"))
	}

	for _, text := range []string{"", "hello", "grüße 🎈"} {
		step.Store(fmt.Sprintf("text %q", text))
		must(socket.WriteMessage(websocket.TextMessage, []byte(text)))
		expect(inbox, "text", []byte(text))
	}
	for _, count := range []int{0, 1, 125, 126, 127, 65535, 65536, 1000003} {
		step.Store(fmt.Sprintf("binary of %d bytes", count))
		must(socket.WriteMessage(websocket.BinaryMessage, pattern(count)))
		expect(inbox, "binary", pattern(count))
	}
	step.Store("text of 70000 characters")
	long := []byte(strings.Repeat("é", 70000))
	must(socket.WriteMessage(websocket.TextMessage, long))
	expect(inbox, "text", long)

	step.Store("fragmented text") // 150000 bytes: 65537, 65537 and 18926
	part := []byte(strings.Repeat("é", 25000))
	writer, err := socket.NextWriter(websocket.TextMessage)
	must(err)
	for i := 0; i < 3; i++ {
		_, err = writer.Write(part)
		must(err)
	}
	must(writer.Close())
	expect(inbox, "text", bytes.Repeat(part, 3))

	step.Store("ping")
	must(socket.WriteControl(websocket.PingMessage, []byte("are you there"), time.Now().Add(timeLimit)))
	expect(inbox, "pong", []byte("are you there"))

	step.Store("burst of 1000 texts")
	for i := 0; i < 1000; i++ {
		must(socket.WriteMessage(websocket.TextMessage, []byte(fmt.Sprintf("message %012d", i))))
	}
	for i := 0; i < 1000; i++ {
		step.Store(fmt.Sprintf("text %d of the burst", i))
		expect(inbox, "text", []byte(fmt.Sprintf("message %012d", i)))
	}

	step.Store("close")
	message := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "done")
	must(socket.WriteControl(websocket.CloseMessage, message, time.Now().Add(timeLimit)))
	finish(expectClose(inbox).Code)
}
