package inventory

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/device-profile/caddy-device-profile/deviceauth"
)

func mac(t testing.TB, s string) deviceauth.MAC {
	t.Helper()
	m, err := deviceauth.ParseMAC(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestParse(t *testing.T) {
	first := Row{
		MAC: mac(t, "000e08aabbcc"), Profile: "acme/1.xml", State: Active,
		Attrs: []Attr{{"tenant", "Acme, Inc."}, {"site", "Köln"}},
	}
	second := Row{MAC: mac(t, "0004f2aabbcc"), State: Blocked, Vendor: "polycom"}
	for name, text := range map[string]string{
		"CSV": "mac,profile,state,vendor,tenant,site\n" +
			"00:0E:08:AA:BB:CC,/acme/1.xml,,,\"Acme, Inc.\",Köln\n" +
			"0004f2aabbcc,,blocked,polycom,,\n",
		"CSV as a spreadsheet writes it": "\ufeffMAC,Tenant,Site,State,Vendor,Profile\r\n" +
			"000e.08aa.bbcc,\"Acme, Inc.\", Köln ,Active,,acme/1.xml\r\n\r\n" +
			"00-04-F2-AA-BB-CC,,,BLOCKED,polycom,",
		"JSON lines": `{"mac":"000e08aabbcc","profile":"acme/1.xml","tenant":"Acme, Inc.","site":"K\u00f6ln"}` + "\n\n" +
			`  { "Site": "", "MAC": "0004F2AABBCC", "state": "blocked", "tenant": null, "vendor": "polycom" }  `,
	} {
		t.Run(name, func(t *testing.T) {
			table, err := Parse("devices", strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if got := table.Columns(); table.Len() != 2 || !cmp.Equal(got, []string{"site", "tenant"}) {
				t.Errorf("%d rows, columns %v", table.Len(), got)
			}
			for _, want := range []Row{first, second} {
				if got, ok := table.Lookup(want.MAC); !ok || !cmp.Equal(got, want) {
					t.Errorf("row (-want +got):\n%s", cmp.Diff(want, got))
				}
			}
			if _, ok := table.Lookup(mac(t, "000e08ddeeff")); ok {
				t.Error("a device that is not listed has a row")
			}
		})
	}
	table, err := Parse("devices", strings.NewReader(`{"mac":"000e08aabbcc","line":7,"dnd":true}`))
	if err != nil {
		t.Fatal(err)
	}
	if row, _ := table.Lookup(mac(t, "000e08aabbcc")); row.Attr("line") != "7" || row.Attr("dnd") != "true" || row.Attr("site") != "" {
		t.Errorf("got %v", row)
	}
}

const row = "000e08aabbcc"

// badFiles are the contents that are refused, and where and why.
var badFiles = map[string]struct {
	text         string
	line, column int
	cause        string
}{
	"empty":                     {"", 0, 0, "is empty"},
	"blank":                     {" \n\n", 1, 1, "no name"},
	"header alone":              {"mac,tenant\n", 0, 0, "lists no device"},
	"no header":                 {row + ",a.xml\n", 1, 14, "the column name"},
	"no mac column":             {"tenant;mac\n", 1, 1, "tenant;mac"},
	"no mac column at all":      {"tenant,site\n", 1, 1, "no column mac"},
	"column twice":              {"mac,Site,site\n", 1, 10, "there twice"},
	"nameless column":           {"mac,site,\n", 1, 10, "no name"},
	"bad column":                {"mac,the site\n", 1, 5, "the site"},
	"JSON array":                {`[{"mac":"` + row + `"}]`, 1, 1, "one object in each line"},
	"bad MAC":                   {"mac\n" + row + "\n000e08aabbc\n", 3, 1, `mac "000e08aabbc"`},
	"no MAC":                    {"tenant,mac\na,\n", 2, 3, "12 hex digits"},
	"zero MAC":                  {"mac\n000000000000\n", 2, 1, "all zeros"},
	"group MAC":                 {"mac\n01005e000001\n", 2, 1, "group address"},
	"duplicate":                 {"tenant,mac\na," + row + "\nb,00:0E:08:AA:BB:CC\n", 3, 3, "mac " + row + " is listed twice"},
	"profile that leads out":    {"mac,profile\n" + row + ",a/../../b\n", 2, 14, `segment ".."`},
	"profile of dots":           {"mac,profile\n" + row + ",./a\n", 2, 14, `segment "."`},
	"profile with a backslash":  {"mac,profile\n" + row + `,a\b` + "\n", 2, 14, "character"},
	"profile with a hole":       {"mac,profile\n" + row + ",a//b\n", 2, 14, "empty segment"},
	"profile too long":          {"mac,profile\n" + row + "," + strings.Repeat("a", 505) + "\n", 2, 14, "longer than"},
	"placeholder":               {"mac,profile\n" + row + ",/{device.mac}.cfg\n", 2, 14, "placeholder"},
	"bad state":                 {"mac,state\n" + row + ",off\n", 2, 14, `state "off"`},
	"too few values":            {"mac,tenant\n" + row + "\n", 2, 1, "1 values, but there are 2 columns"},
	"too many values":           {"mac\n" + row + ",a\n", 2, 1, "2 values, but there are 1 columns"},
	"quote in a value":          {"mac,tenant\n" + row + `,a"b` + "\n", 2, 15, "bare"},
	"quote that does not end":   {"mac,tenant\n" + row + ",\"a\n000e08ddeeff,b\n", 3, 0, "begins in line 2"},
	"bad UTF-8":                 {"mac,tenant\n" + row + ",K\xf6ln\n", 2, 14, "tenant is not valid UTF-8"},
	"bad UTF-8 in the header":   {"mac,\xf6\n" + row + ",a\n", 1, 5, "other characters"},
	"decoded wrongly":           {"mac,tenant\n" + row + ",K\ufffdln\n", 2, 14, "U+FFFD"},
	"NUL":                       {"mac,tenant\n" + row + ",a\x00\n", 2, 14, "control character"},
	"two lines in a value":      {"mac,tenant\n" + row + ",\"a\nb\"\n", 2, 14, "control character"},
	"long value":                {"mac,tenant\n" + row + "," + strings.Repeat("a", 1025) + "\n", 2, 14, "more than 1024 bytes"},
	"UTF-16":                    {"\xff\xfem\x00a\x00c\x00\n\x00", 1, 1, "other characters"},
	"JSON: broken":              {"{\"mac\":\"" + row + "\"}\n{\"mac\":\"000e08ddeeff\"", 2, 22, "EOF"},
	"JSON: no object":           {"{\"mac\":\"" + row + "\"}\n[]", 2, 1, "no JSON object"},
	"JSON: no comma":            {`{"mac":"` + row + `" "a":1}`, 1, 22, "invalid character"},
	"JSON: two in a line":       {`{"mac":"` + row + `"}{}`, 1, 23, "more behind"},
	"JSON: no mac":              {`{"tenant":"a"}`, 1, 15, "no mac"},
	"JSON: mac of null":         {`{"mac":null}`, 1, 12, "12 hex digits"},
	"JSON: name twice":          {`{"mac":"` + row + `","a":1,"A":2}`, 1, 32, "a is there twice"},
	"JSON: nested":              {`{"mac":"` + row + `","a":{"b":1}}`, 1, 28, "a is neither"},
	"JSON: duplicate":           {"{\"mac\":\"" + row + "\"}\n{\"mac\":\"" + row + "\"}", 2, 1, "listed twice"},
	"JSON: bad state":           {`{"mac":"` + row + `","state":true}`, 1, 35, `state "true"`},
	"JSON: leads out":           {`{"mac":"` + row + `","profile":"../x"}`, 1, 39, `segment ".."`},
	"JSON: bad UTF-8":           {"{\"mac\":\"" + row + "\"}\n{\"a\":\"\xf6\"}", 2, 7, "UTF-8"},
	"JSON: half of a character": {`{"mac":"` + row + `","a":"\ud800"}`, 1, 35, "U+FFFD"},
	"JSON: long line":           {"{\"mac\":\"" + row + "\"}\n{\"a\":\"" + strings.Repeat("a", maxLine), 2, 1, "more than 65536 bytes"},
	"JSON: bad name":            {`{"mac":"` + row + `","a b":1}`, 1, 28, `"a b"`},
}

// Every bad file is refused, with the place and the cause.
func TestParseRefuses(t *testing.T) {
	for name, tt := range badFiles {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("devices.csv", strings.NewReader(tt.text))
			at, ok := err.(*ParseError)
			if !ok {
				t.Fatalf("got %v, want a *ParseError", err)
			}
			if at.Line != tt.line || tt.column != 0 && at.Column != tt.column || !strings.Contains(err.Error(), tt.cause) {
				t.Errorf("got %q, want line %d, column %d and %q", err, tt.line, tt.column, tt.cause)
			}
			if !strings.HasPrefix(err.Error(), "devices.csv:") {
				t.Errorf("error %q does not begin with the file", err)
			}
		})
	}
}

// An attribute may be a secret; an error must not tell it.
func TestParseKeepsSecrets(t *testing.T) {
	for _, text := range []string{
		"mac,password\n" + row + ",hunter2\x00\n", "mac,password\n" + row + ",hunter2,\n", "mac,password\n" + row + ",hun\"ter2\n",
		`{"mac":"` + row + `","password":"hunter2\u0000"}`, `{"mac":"x","password":"hunter2"}`, `{"password":["hunter2"]}`,
	} {
		if _, err := Parse("devices", strings.NewReader(text)); err == nil || strings.Contains(err.Error(), "ter2") {
			t.Errorf("got %v for %q", err, text)
		}
	}
}

type failing struct{ error }

func (f failing) Read([]byte) (int, error) { return 0, f.error }

// What can't be read is not taken for the file's end.
func TestParseReadError(t *testing.T) {
	broken := errors.New("broken disk")
	for _, text := range []string{"", "mac\n" + row + "\n", "{\"mac\":\"" + row + "\"}\n"} {
		_, err := Parse("devices", multi(text, broken))
		if !errors.Is(err, broken) {
			t.Errorf("after %q: got %v", text, err)
		}
		if _, ok := err.(*ParseError); ok {
			t.Errorf("after %q: the content is blamed", text)
		}
	}
}

// FuzzParse holds that whatever is accepted can be found again, and is sound,
// and that whatever is refused names the file.
func FuzzParse(f *testing.F) {
	for _, bad := range badFiles {
		f.Add(bad.text)
	}
	f.Add("mac,profile,state,vendor,tenant\n" + row + ",/a/b.xml,blocked,snom,\"x,y\"\n")
	f.Add("{\"mac\":\"" + row + "\",\"profile\":\"a\",\"n\":1.5e3,\"b\":false}\n{\"mac\":\"000e08ddeeff\",\"x\":null}")
	f.Fuzz(func(t *testing.T, text string) {
		table, err := Parse("devices", strings.NewReader(text))
		if err != nil {
			if at, ok := err.(*ParseError); !ok || at.Line < 0 || !strings.HasPrefix(err.Error(), "devices:") {
				t.Errorf("error %v", err)
			}
			return
		}
		if table.Len() == 0 {
			t.Fatal("no rows")
		}
		for m := range table.index {
			row, ok := table.Lookup(m)
			if !ok || row.MAC != m {
				t.Fatalf("%s has no row", m)
			}
			again := Row{MAC: m}
			for _, c := range append(row.Attrs, Attr{"profile", row.Profile}, Attr{"state", string(row.State)}, Attr{"vendor", row.Vendor}) {
				if err := again.Set(c.Column, c.Value); err != nil {
					t.Errorf("%s: %v", m, err)
				}
			}
			if !cmp.Equal(row, again) {
				t.Errorf("%s: (-first +again)\n%s", m, cmp.Diff(row, again))
			}
		}
	})
}

// fleet is a file of n devices, as large operators have them.
func fleet(n, version int) string {
	var b strings.Builder
	b.WriteString("mac,profile,state,tenant,site,template\n")
	for i := range n {
		fmt.Fprintf(&b, "0004f2%06x,tenants/t%04d/0004f2%06x.cfg,active,tenant-%04d,site-%02d,v%d\n", i, i%5000, i, i%5000, i%40, version)
	}
	return b.String()
}
