package inventory

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

const (
	// maxFile bounds an inventory's file, in bytes.
	maxFile = 1 << 30
	// maxLine bounds a line of JSON, in bytes.
	maxLine = 64 << 10
)

// ParseError says where in a file what is wrong. Line and Column count from 1,
// Column in bytes; they are 0 where the file as a whole is wrong.
type ParseError struct {
	File         string
	Line, Column int
	Err          error
}

// Error returns "file:line:column: cause".
func (e *ParseError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d:%d: %v", e.File, e.Line, e.Column, e.Err)
}

// Unwrap returns the cause.
func (e *ParseError) Unwrap() error { return e.Err }

// Parse reads an inventory: CSV (RFC 4180) that begins with a row of column names,
// or JSON lines, each an object. The column mac is required; profile, state and
// vendor are known; all others are attributes. Values are trimmed of white
// space. The file's name is for errors, which are of type *ParseError where the
// content is at fault.
func Parse(file string, r io.Reader) (*Table, error) {
	limited := &io.LimitedReader{R: r, N: maxFile + 1}
	in := bufio.NewReaderSize(limited, 1<<16)
	if head, _ := in.Peek(3); string(head) == "\ufeff" {
		in.Discard(3) //nolint:errcheck // peeked at
	}
	first, err := firstByte(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	b := newBuilder()
	switch first {
	case '{':
		err = b.parseJSON(in)
	case '[':
		err = &ParseError{Line: 1, Column: 1, Err: errors.New("a JSON array; what is wanted is one object in each line")}
	default:
		err = b.parseCSV(in)
	}
	switch at := (*ParseError)(nil); {
	case limited.N <= 0:
		return nil, &ParseError{File: file, Err: fmt.Errorf("has more than %d bytes", maxFile)}
	case errors.As(err, &at):
		at.File = file
		return nil, at
	case err != nil:
		return nil, fmt.Errorf("%s: %w", file, err)
	case b.Len() == 0:
		// More likely an export that went wrong than somebody's wish.
		return nil, &ParseError{File: file, Err: errors.New("lists no device, so all would be refused")}
	}
	return b.table(), nil
}

// firstByte returns the first byte that is no white space, without reading it.
func firstByte(in *bufio.Reader) (byte, error) {
	head, err := in.Peek(in.Size())
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if head = bytes.TrimLeft(head, " \t\r\n"); len(head) > 0 {
		return head[0], nil
	}
	return 0, nil
}

func (b *builder) parseCSV(in io.Reader) error {
	r := csv.NewReader(in)
	r.ReuseRecord = true
	header, err := r.Read()
	if errors.Is(err, io.EOF) {
		return &ParseError{Err: errors.New("is empty")}
	}
	if err != nil {
		return csvError(err, nil, nil)
	}
	columns, err := b.header(r, header)
	if err != nil {
		return err
	}
	row := new(Row)
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return csvError(err, record, columns)
		}
		*row = Row{State: Active, Attrs: row.Attrs[:0]}
		for i, value := range record {
			if err := row.Set(columns[i], value); err != nil {
				return fieldError(r, i, err)
			}
		}
		if err := b.add(row); err != nil {
			return fieldError(r, slices.Index(columns, "mac"), fmt.Errorf("mac %s %w", row.MAC, err))
		}
	}
}

// header reads the names of the columns.
func (b *builder) header(r *csv.Reader, record []string) ([]string, error) {
	var columns []string
	for i, name := range record {
		column, err := Column(name)
		if err == nil && slices.Contains(columns, column) {
			err = fmt.Errorf("the column %s is there twice", column)
		}
		if err != nil {
			return nil, fieldError(r, i, err)
		}
		columns = append(columns, column)
		b.see(column)
	}
	if !slices.Contains(columns, "mac") {
		return nil, fieldError(r, 0, errors.New("the first row has no column mac; it names the columns, separated by commas"))
	}
	return columns, nil
}

// see notes that there is a column.
func (b *builder) see(column string) {
	switch column {
	case "mac", "profile", "state":
	case "vendor":
		b.vendors = true
	default:
		b.column(column)
	}
}

func fieldError(r *csv.Reader, field int, err error) error {
	line, column := r.FieldPos(field)
	return &ParseError{Line: line, Column: column, Err: err}
}

// csvError says where the reader could not go on.
func csvError(err error, record, columns []string) error {
	at, ok := errors.AsType[*csv.ParseError](err)
	if !ok {
		return err
	}
	err = at.Err
	if errors.Is(err, csv.ErrFieldCount) {
		err = fmt.Errorf("the row has %d values, but there are %d columns", len(record), len(columns))
	}
	if at.StartLine != at.Line {
		err = fmt.Errorf("%w; the row begins in line %d", err, at.StartLine)
	}
	return &ParseError{Line: at.Line, Column: at.Column, Err: err}
}

func (b *builder) parseJSON(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	number := 0
	row := new(Row)
	for lines.Scan() {
		number++
		line := lines.Bytes()
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		*row = Row{State: Active, Attrs: row.Attrs[:0]}
		if column, err := b.parseObject(line, row); err != nil {
			return &ParseError{Line: number, Column: column, Err: err}
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return &ParseError{Line: number + 1, Column: 1, Err: fmt.Errorf("the line has more than %d bytes", maxLine)}
	}
	return lines.Err()
}

// parseObject reads one line of JSON, and adds the row that it is. On an error, it
// returns where in the line that is. It reads token by token, since
// json.Unmarshal would not see that a name is there twice.
func (b *builder) parseObject(line []byte, row *Row) (column int, err error) {
	if !utf8.Valid(line) {
		return invalidUTF8(line) + 1, errors.New("is not valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	where := 1
	next := func() (json.Token, error) {
		token, err := d.Token()
		where = int(d.InputOffset()) + 1
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			where = int(syntax.Offset)
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return token, err
	}
	if token, err := next(); err != nil {
		return where, err
	} else if token != json.Delim('{') {
		return 1, errors.New("the line is no JSON object")
	}
	var seen []string
	for d.More() {
		token, err := next()
		if err != nil {
			return where, err
		}
		name, err := Column(token.(string)) // the decoder has no other names
		if err == nil && slices.Contains(seen, name) {
			err = fmt.Errorf("%s is there twice", name)
		}
		if err != nil {
			return where, err
		}
		seen = append(seen, name)
		b.see(name)
		if token, err = next(); err != nil {
			return where, err
		}
		value, err := scalar(name, token)
		if err != nil {
			return where, err
		}
		if err := row.Set(name, value); err != nil {
			return where, err
		}
	}
	if _, err := next(); err != nil {
		return where, err
	}
	if rest := line[d.InputOffset():]; len(bytes.TrimSpace(rest)) > 0 {
		return where, errors.New("there is more behind the object")
	}
	if !slices.Contains(seen, "mac") {
		return where, errors.New("the object has no mac")
	}
	if err := b.add(row); err != nil {
		return 1, fmt.Errorf("mac %s %w", row.MAC, err)
	}
	return 0, nil
}

// scalar returns a JSON value as text; null is as good as none.
func scalar(name string, token json.Token) (string, error) {
	switch value := token.(type) {
	case nil:
		return "", nil
	case string:
		return value, nil
	case json.Number:
		return value.String(), nil
	case bool:
		return fmt.Sprint(value), nil
	}
	return "", fmt.Errorf("%s is neither text, a number, true, false nor null", name)
}

// invalidUTF8 returns where the first bytes are that are none.
func invalidUTF8(line []byte) int {
	for at := 0; ; {
		c, size := utf8.DecodeRune(line[at:])
		if c == utf8.RuneError && size <= 1 {
			return at
		}
		at += size
	}
}
