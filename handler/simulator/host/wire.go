package host

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"os"
	"slices"
	"strconv"
	"strings"
)

// HTTP/1.1 is read and written here and not by net/http: a header's name reaches the handler in the case that the caller wrote, and a connection that
// breaks counts exactly as often as it was recorded.

// A field is one header line.
type field struct{ name, value string }

// fields are the header lines of a message, in their order.
type fields []field

// get returns the first value of a name, in any case.
func (f fields) get(name string) string {
	v, _ := f.find(name)
	return v
}

func (f fields) find(name string) (string, bool) {
	i := slices.IndexFunc(f, func(h field) bool { return strings.EqualFold(h.name, name) })
	if i < 0 {
		return "", false
	}
	return f[i].value, true
}

// without returns a copy of the fields that leaves out some names.
func (f fields) without(names ...string) fields {
	return slices.DeleteFunc(slices.Clone(f), func(h field) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, h.name) })
	})
}

// joined returns the fields with one line for each name, its values after one another, as the host hands them on.
func (f fields) joined() fields {
	var all fields
	for _, h := range f {
		i := slices.IndexFunc(all, func(o field) bool { return strings.EqualFold(o.name, h.name) })
		switch {
		case i < 0:
			all = append(all, h)
		case strings.EqualFold(h.name, "Cookie"):
			all[i].value += "; " + h.value
		default:
			all[i].value += ", " + h.value
		}
	}
	return all
}

// hopByHop are the headers that end at a proxy.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Trailer", "Transfer-Encoding",
	"Upgrade",
}

// maxHead is how much of a request's head is read.
const maxHead = 32 << 10

var (
	errMalformed = errors.New("malformed message")
	errBrokenOff = errors.New("the message broke off")
)

// readLine reads one line of a head, and takes its length off what is left.
func readLine(r *bufio.Reader, left *int) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if *left -= len(part); *left < 0 {
			return "", errMalformed
		}
		if err == nil {
			return strings.TrimRight(string(line), "\r\n"), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return "", err
		}
	}
}

// readFields reads header lines up to the empty one.
func readFields(r *bufio.Reader, left *int) (fields, error) {
	var f fields
	for {
		line, err := readLine(r, left)
		if err != nil || line == "" {
			return f, err
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return nil, errMalformed
		}
		f = append(f, field{name, strings.Trim(value, " \t")})
	}
}

// framing is how long a message's body is.
type framing struct {
	chunked bool
	length  int64 // -1: up to the end of the connection
}

// framingOf reads how a message is framed; without is the length where no header says it.
func framingOf(f fields, without int64) (framing, error) {
	if te, ok := f.find("Transfer-Encoding"); ok {
		if !strings.EqualFold(te, "chunked") {
			return framing{}, errMalformed
		}
		return framing{chunked: true, length: -1}, nil
	}
	cl, ok := f.find("Content-Length")
	if !ok {
		return framing{length: without}, nil
	}
	n, err := strconv.ParseUint(cl, 10, 62)
	if err != nil {
		return framing{}, errMalformed
	}
	return framing{length: int64(n)}, nil
}

// body returns the body of a message whose head has been read.
func (f framing) body(r *bufio.Reader) io.Reader {
	switch {
	case f.chunked:
		return &chunks{from: r, r: httputil.NewChunkedReader(r)}
	case f.length < 0:
		return r
	default:
		return &exactly{r: r, left: f.length}
	}
}

// exactly reads so many bytes; fewer are an error.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	switch {
	case e.left == 0:
		err = io.EOF
	case errors.Is(err, io.EOF):
		err = errBrokenOff
	}
	return n, err
}

// chunks reads a chunked body, and the trailer after it.
type chunks struct {
	from *bufio.Reader
	r    io.Reader
	over bool
}

func (c *chunks) Read(p []byte) (int, error) {
	if c.over {
		return 0, io.EOF
	}
	n, err := c.r.Read(p)
	if errors.Is(err, io.EOF) {
		left := maxHead
		if _, err := readFields(c.from, &left); err != nil {
			return n, errBrokenOff
		}
		c.over = true
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errBrokenOff
	}
	return n, err
}

// A request is what a caller sent, or what the handler gets.
type request struct {
	method, target string
	fields         fields
	framing        framing
	body           io.Reader // nil when there is none
}

// readRequest reads a request's head.
func readRequest(r *bufio.Reader) (*request, error) {
	left := maxHead
	line, err := readLine(r, &left)
	for err == nil && line == "" { // an empty line before a request is allowed
		line, err = readLine(r, &left)
	}
	if err != nil {
		return nil, err
	}
	method, rest, _ := strings.Cut(line, " ")
	target, version, ok := strings.Cut(rest, " ")
	if !ok || method == "" || target == "" || version != "HTTP/1.1" && version != "HTTP/1.0" {
		return nil, errMalformed
	}
	f, err := readFields(r, &left)
	if err != nil {
		return nil, errMalformed
	}
	req := &request{method: method, target: target, fields: f}
	if _, ok := f.find("Host"); !ok && version == "HTTP/1.1" {
		return nil, errMalformed
	}
	if version == "HTTP/1.0" {
		req.fields = append(req.fields.without("Connection"), field{"Connection", "close"})
	}
	if req.framing, err = framingOf(f, 0); err != nil {
		return nil, err
	}
	if req.framing.length != 0 {
		req.body = req.framing.body(r)
	}
	return req, nil
}

// writeHead writes a first line and header lines.
func writeHead(w *bufio.Writer, line string, f fields) error {
	_, _ = w.WriteString(line + "\r\n")
	for _, h := range f {
		_, _ = w.WriteString(h.name + ": " + h.value + "\r\n")
	}
	_, _ = w.WriteString("\r\n")
	return w.Flush()
}

// passOn writes a body as it comes.
func passOn(w *bufio.Writer, body io.Reader, chunked bool) error {
	buf := make([]byte, 16<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if chunked {
				_, _ = w.WriteString(strconv.FormatInt(int64(n), 16) + "\r\n")
			}
			_, _ = w.Write(buf[:n])
			if chunked {
				_, _ = w.WriteString("\r\n")
			}
			if err := w.Flush(); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if chunked {
		_, _ = w.WriteString("0\r\n\r\n")
	}
	return w.Flush()
}

// A response is what the handler answered, or what a caller gets.
type response struct {
	status  int
	fields  fields
	framing framing
	body    io.Reader // nil when there is none
}

// readResponse reads the head of an answer to a request of the given method; interim answers are passed over. The error is io.EOF when there was not a byte.
func readResponse(r *bufio.Reader, method string) (*response, error) {
	for {
		switch _, err := r.Peek(1); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, err
		case err != nil:
			return nil, io.EOF
		}
		left := 16 * maxHead
		line, err := readLine(r, &left)
		if err != nil {
			return nil, errBrokenOff
		}
		version, rest, _ := strings.Cut(line, " ")
		code, _, _ := strings.Cut(rest, " ")
		status, err := strconv.Atoi(code)
		if err != nil || status < 100 || status > 999 || !strings.HasPrefix(version, "HTTP/1.") {
			return nil, errMalformed
		}
		f, err := readFields(r, &left)
		if err != nil {
			return nil, errBrokenOff
		}
		if status < 200 {
			continue
		}
		a := &response{status: status, fields: f}
		if method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified {
			return a, nil
		}
		if a.framing, err = framingOf(f, -1); err != nil {
			return nil, err
		}
		if a.framing.length != 0 {
			a.body = a.framing.body(r)
		}
		return a, nil
	}
}

// statusLine is the first line of an answer.
func statusLine(status int) string {
	return fmt.Sprintf("HTTP/1.1 %d %s", status, http.StatusText(status))
}
