package caddymodule

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/google/go-cmp/cmp"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	"github.com/device-profile/caddy-device-profile/profilesrc"
)

// minimal are the options that a directive can't do without.
const minimal = "trust snom a.pem\nserve /a\n"

// adaptHandler returns the handler's JSON for the options in the directive.
func adaptHandler(t *testing.T, options string) string {
	t.Helper()
	h := new(Handler)
	if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser("device_profile {\n" + options + "\n}")); err != nil {
		t.Fatal(err)
	}
	return string(caddyconfig.JSON(h, nil))
}

// TestAdapt holds every option in both syntaxes.
func TestAdapt(t *testing.T) {
	const rule = `"serve":[{"path":"/a"}]`
	tests := []struct{ name, caddyfile, json string }{
		{"minimal", minimal, `{"trusts":[{"vendor":"snom","pem_files":["a.pem"]}],` + rule + `}`},
		{"files and vendors", "trust snom a.pem b/ c/*.pem\ntrust polycom d.pem\nserve /a",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem","b/","c/*.pem"]},{"vendor":"polycom","pem_files":["d.pem"]}],` + rule + `}`},
		{"policy", "trust snom a.pem {\nweakest_signature md5\nweakest_rsa 1024\nexpired 48h\nextended_key_usage any\ngeneric allow\n}\nserve /a",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem"],"weakest_signature":"md5","weakest_rsa":1024,"expired":"48h","extended_key_usage":"any","generic":"allow"}],` + rule + `}`},
		{"crl", "trust_refresh 10s\ntrust snom a.pem {\ncrl a.crl https://ca.example.com/b.crl\ncrl_refresh 15m\ncrl_required\n}\nserve /a",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem"],"crl":["a.crl","https://ca.example.com/b.crl"],"crl_refresh":900000000000,"crl_required":true}],"trust_refresh":10000000000,` + rule + `}`},
		{"trust_pool", "trust snom {\ntrust_pool file a.pem\n}\nserve /a",
			`{"trusts":[{"vendor":"snom","trust_pool":{"pem_files":["a.pem"],"provider":"file"}}],` + rule + `}`},
		{"identity preset", "trust acme a.pem {\nidentity polycom\n}\nserve /a",
			`{"trusts":[{"vendor":"acme","pem_files":["a.pem"],"identity":{"preset":"polycom"}}],` + rule + `}`},
		{"identity rules", "trust acme a.pem {\nidentity {\nmac CN\nmac san.dns ([^.]+)\\..*\nmodel OU\nserial 2.5.4.5 SN:(.*)\n}\n}\nserve /a",
			`{"trusts":[{"vendor":"acme","pem_files":["a.pem"],"identity":{"mac":[{"attribute":"CN"},{"attribute":"san.dns","pattern":"([^.]+)\\..*"}],"model":[{"attribute":"OU"}],"serial":[{"attribute":"2.5.4.5","pattern":"SN:(.*)"}]}}],` + rule + `}`},
		{"serve", "trust snom a.pem\nserve /{device.mac}.xml\nserve /fw/* /firmware/*\nserve /b /c {\nvendor snom acme\n}",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem"]}],"serve":[{"path":"/{device.mac}.xml"},{"path":"/fw/*","profile":"/firmware/*"},{"path":"/b","profile":"/c","vendors":["snom","acme"]}]}`},
		{"sources", minimal + "source files /srv/a\nsource files b {\nfs c\n}",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem"]}],` + rule + `,"sources":[{"root":"/srv/a","source":"files"},{"fs":"c","root":"b","source":"files"}]}`},
		{"files in memory", minimal + "source files a {\nmemory 1GiB\n}\nsource files b {\nmemory off\n}",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem"]}],` + rule + `,"sources":[{"memory":1073741824,"root":"a","source":"files"},{"memory":-1,"root":"b","source":"files"}]}`},
		{"source http", minimal + "source http http://pbx:8080/prov",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem"]}],` + rule + `,"sources":[{"source":"http","url":"http://pbx:8080/prov"}]}`},
		{"source http, everything", minimal + "source http https://pbx {\ntimeout 3s\nmax_size 1MiB\nheader_up X-MAC {device.mac}\nheader_up X-MAC b\nheader_up X-Key {env.KEY}\nbasic_auth u p\ntransport http {\ntls_server_name x\n}\n}",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem"]}],` + rule + `,"sources":[{"header_up":{"X-Key":["{env.KEY}"],"X-Mac":["{device.mac}","b"]},"max_size":1048576,"password":"p","source":"http","timeout":3000000000,"transport":{"protocol":"http","tls":{"server_name":"x"}},"url":"https://pbx","username":"u"}]}`},
		{"cache", minimal + "source files b\ncache",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem"]}],` + rule + `,"sources":[{"root":"b","source":"files"}],"cache":{}}`},
		{"cache, everything", minimal + "source files b\ncache {\nrefresh 1m\ngrace_period 2d\nmax_size 1GiB\nmax_entry 8MiB\npersist /var/cache/x\n}",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem"]}],` + rule + `,"sources":[{"root":"b","source":"files"}],"cache":{"refresh":60000000000,"grace_period":172800000000000,"max_size":1073741824,"max_entry":8388608,"persist":"/var/cache/x"}}`},
		{"source tftp", minimal + "source tftp 192.0.2.1",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem"]}],` + rule + `,"sources":[{"address":"192.0.2.1","source":"tftp"}]}`},
		{"source tftp with options", minimal + "source tftp [::1]:6969 {\ntimeout 250ms\nretries 4\ndeadline 1m\nblock_size 512\nmax_size 4MiB\n}",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem"]}],` + rule + `,"sources":[{"address":"[::1]:6969","block_size":512,"deadline":60000000000,"max_size":4194304,"retries":4,"source":"tftp","timeout":250000000}]}`},
		{"devices", minimal + "devices /etc/devices.csv",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem"]}],"devices":{"inventory":"file","path":"/etc/devices.csv"},` + rule + `}`},
		{"devices with options", minimal + "devices ./file {\nrefresh 10s\n}",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem"]}],"devices":{"inventory":"file","path":"./file","refresh":10000000000},` + rule + `}`},
		{"devices of a module", minimal + "devices file devices {\nrefresh 10s\n}",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem"]}],"devices":{"inventory":"file","path":"devices","refresh":10000000000},` + rule + `}`},
		{"mode and remember", minimal + "mode observe\nremember 500",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem"]}],` + rule + `,"mode":"observe","remember":500}`},
		{"remember off", minimal + "mode enforce\nremember off",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem"]}],` + rule + `,"mode":"enforce","remember":-1}`},
		{"legacy_tls", minimal + "legacy_tls",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem"]}],` + rule + `,"legacy_tls":{}}`},
		{"legacy_tls with ciphers", minimal + "legacy_tls 3des rc4",
			`{"trusts":[{"vendor":"snom","pem_files":["a.pem"]}],` + rule + `,"legacy_tls":{"rc4":true,"3des":true}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := adaptHandler(t, tt.caddyfile)
			if diff := cmp.Diff(tt.json, got); diff != "" {
				t.Errorf("JSON (-want +got):\n%s", diff)
			}
			// The JSON holds nothing that the handler would not read.
			if err := caddy.StrictUnmarshalJSON([]byte(tt.json), new(Handler)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTrustSettings holds that every option of a trust reaches what verifies.
func TestTrustSettings(t *testing.T) {
	for name, tt := range map[string]struct {
		option string
		want   deviceauth.Trust
	}{
		"defaults":          {"", deviceauth.Trust{}},
		"sha256":            {"weakest_signature sha256", deviceauth.Trust{}},
		"sha1":              {"weakest_signature sha1", deviceauth.Trust{WeakestSignature: deviceauth.SHA1}},
		"md5":               {"weakest_signature md5", deviceauth.Trust{WeakestSignature: deviceauth.MD5}},
		"weakest_rsa":       {"weakest_rsa 1536", deviceauth.Trust{WeakestRSA: 1536}},
		"expired deny":      {"expired deny", deviceauth.Trust{}},
		"expired allow":     {"expired allow", deviceauth.Trust{AllowExpired: true}},
		"expired for a day": {"expired 1d", deviceauth.Trust{ExpiredGrace: 24 * time.Hour}},
		"client":            {"extended_key_usage client", deviceauth.Trust{}},
		"any":               {"extended_key_usage any", deviceauth.Trust{AnyExtendedKeyUsage: true}},
		"crl_required":      {"crl a\ncrl_required", deviceauth.Trust{CRLRequired: true}},
		"generic deny":      {"generic deny", deviceauth.Trust{}},
		"generic allow":     {"generic allow", deviceauth.Trust{AllowGeneric: true}},
	} {
		t.Run(name, func(t *testing.T) {
			var h Handler
			raw := adaptHandler(t, "trust snom a.pem {\n"+tt.option+"\n}\nserve /a")
			if err := json.Unmarshal([]byte(raw), &h); err != nil {
				t.Fatal(err)
			}
			got, err := h.Trusts[0].settings()
			if err != nil {
				t.Fatal(err)
			}
			got.Identity, tt.want.Vendor = deviceauth.Identity{}, "snom"
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("trust (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTFTPSettings holds that every option of the source reaches what asks.
func TestTFTPSettings(t *testing.T) {
	var source TFTPSource
	if err := json.Unmarshal([]byte(`{"address":"{env.TFTP}","timeout":"250ms","retries":4,"deadline":"1m","block_size":512,"max_size":4194304}`), &source); err != nil {
		t.Fatal(err)
	}
	want := profilesrc.TFTPConfig{
		Address: "host", Timeout: 250 * time.Millisecond, Retries: 4, Deadline: time.Minute, BlockSize: 512, MaxSize: 4 << 20,
	}
	if diff := cmp.Diff(want, source.config("host")); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	t.Setenv("TFTP", "[::1]:6969")
	if err := source.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	if got := source.String(); got != "tftp:[::1]:6969" {
		t.Errorf("the source is called %s", got)
	}
	if err := source.Cleanup(); err != nil {
		t.Error(err)
	}
}

// The directive brings the listener wrapper of its site.
func TestAdaptSite(t *testing.T) {
	adapter := caddyconfig.GetAdapter("caddyfile")
	raw, _, err := adapter.Adapt([]byte("prov.example.com {\n\tdevice_profile /x* {\n\t\ttrust snom a.pem\n\t\tserve /a\n\t}\n\trespond done\n}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"apps":{"http":{"servers":{"srv0":{"listen":[":443"],"listener_wrappers":[{"wrapper":"device_tls"}],"routes":[{"match":[{"host":["prov.example.com"]}],"handle":[{"handler":"subroute","routes":[{"handle":[{"handler":"device_profile","serve":[{"path":"/a"}],"trusts":[{"pem_files":["a.pem"],"vendor":"snom"}]}],"match":[{"path":["/x*"]}]},{"handle":[{"body":"done","handler":"static_response"}]}]}],"terminal":true}]}}}}}`
	if diff := cmp.Diff(want, string(raw)); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

// TestAdaptRefuses holds that every slip in the Caddyfile is an error that says
// what and where.
func TestAdaptRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ options, cause string }{
		"nothing":                  {"", "at least one trust"},
		"no trust":                 {"serve /a", "at least one trust"},
		"no serve":                 {"trust snom a.pem", "at least one serve"},
		"unknown option":           {minimal + "serves /a", `"serves"`},
		"trust without a label":    {"trust\nserve /a", "argument"},
		"trust without CA":         {"trust snom\nserve /a", "snom"},
		"unknown vendor":           {"trust acme a.pem\nserve /a", "no identity preset"},
		"unknown trust option":     {"trust snom a.pem {\nexpires allow\n}\nserve /a", `"expires"`},
		"duplicate trust option":   {"trust snom a.pem {\nexpired allow\nexpired deny\n}\nserve /a", "duplicate option expired"},
		"surplus argument":         {"trust snom a.pem {\nexpired allow deny\n}\nserve /a", "argument"},
		"missing argument":         {"trust snom a.pem {\nexpired\n}\nserve /a", "argument"},
		"unexpected block":         {"trust snom a.pem {\nexpired allow {\nx\n}\n}\nserve /a", "block"},
		"bad signature":            {"trust snom a.pem {\nweakest_signature sha512\n}\nserve /a", "sha512"},
		"bad RSA size":             {"trust snom a.pem {\nweakest_rsa many\n}\nserve /a", "many"},
		"RSA below the floor":      {"trust snom a.pem {\nweakest_rsa 512\n}\nserve /a", "512"},
		"bad expired":              {"trust snom a.pem {\nexpired never\n}\nserve /a", "never"},
		"negative grace":           {"trust snom a.pem {\nexpired -1h\n}\nserve /a", "-1h"},
		"bad usage":                {"trust snom a.pem {\nextended_key_usage server\n}\nserve /a", "server"},
		"bad generic":              {"trust snom a.pem {\ngeneric yes\n}\nserve /a", "yes"},
		"crl without a file":       {"trust snom a.pem {\ncrl\n}\nserve /a", "argument"},
		"crl twice":                {"trust snom a.pem {\ncrl a\ncrl b\n}\nserve /a", "duplicate option crl"},
		"crl with a block":         {"trust snom a.pem {\ncrl a {\nx\n}\n}\nserve /a", "block"},
		"crl_required alone":       {"trust snom a.pem {\ncrl_required\n}\nserve /a", "need a crl"},
		"crl_required no":          {"trust snom a.pem {\ncrl a\ncrl_required no\n}\nserve /a", "argument"},
		"crl_refresh alone":        {"trust snom a.pem {\ncrl_refresh 1h\n}\nserve /a", "need a crl"},
		"bad crl_refresh":          {"trust snom a.pem {\ncrl a\ncrl_refresh daily\n}\nserve /a", "daily"},
		"bad trust_refresh":        {"trust_refresh 0s\n" + minimal, "0s"},
		"trust_refresh twice":      {"trust_refresh 1s\ntrust_refresh 2s\n" + minimal, "duplicate option trust_refresh"},
		"unknown preset":           {"trust acme a.pem {\nidentity nobody\n}\nserve /a", "nobody"},
		"surplus preset":           {"trust acme a.pem {\nidentity snom polycom\n}\nserve /a", "argument"},
		"empty identity":           {"trust acme a.pem {\nidentity {\n}\n}\nserve /a", "identity"},
		"unknown identity option":  {"trust acme a.pem {\nidentity {\nname CN\n}\n}\nserve /a", `"name"`},
		"unknown attribute":        {"trust acme a.pem {\nidentity {\nmac MAC\n}\n}\nserve /a", `"MAC"`},
		"bad regexp":               {"trust acme a.pem {\nidentity {\nmac CN (\n}\n}\nserve /a", "missing closing"},
		"unknown trust_pool":       {"trust acme {\ntrust_pool nobody\n}\nserve /a", "nobody"},
		"unknown placeholder":      {"trust snom a.pem\nserve /{device.name}", "{device.name}"},
		"placeholder of a request": {"trust snom a.pem\nserve /a /{http.request.uri.path}", "{http.request.uri.path}"},
		"serve without a path":     {"trust snom a.pem\nserve", "argument"},
		"surplus path":             {"trust snom a.pem\nserve /a /b /c", "argument"},
		"duplicate serve":          {minimal + "serve /a /b", "duplicate serve rule for /a"},
		"serve without a slash":    {"trust snom a.pem\nserve a", "slash"},
		"unknown serve option":     {"trust snom a.pem\nserve /a {\nvendors snom\n}", `"vendors"`},
		"devices without a file":   {minimal + "devices", "argument"},
		"devices of no module":     {minimal + "devices sqlx x", "no module http.device_profile.inventories.sqlx"},
		"devices, surplus":         {minimal + "devices a.csv b.csv", "argument"},
		"devices, module alone":    {minimal + "devices file", "argument"},
		"devices, unknown option":  {minimal + "devices a.csv {\npoll 1s\n}", `"poll"`},
		"devices, twice an option": {minimal + "devices a.csv {\nrefresh 1s\nrefresh 1s\n}", "duplicate option refresh"},
		"devices, bad refresh":     {minimal + "devices a.csv {\nrefresh never\n}", `"never"`},
		"duplicate devices":        {minimal + "devices a.csv\ndevices b.csv", "duplicate option devices"},
		"bad column":               {"trust snom a.pem\nserve /{device.attr.}", "no name"},
		"column in upper case":     {"trust snom a.pem\nserve /{device.attr.Tenant}", "lower case"},
		"unknown source":           {minimal + "source nobody", "nobody"},
		"source without a name":    {minimal + "source", "argument"},
		"files without a folder":   {minimal + "source files", "folder"},
		"files, surplus argument":  {minimal + "source files a b", "argument"},
		"files, unknown option":    {minimal + "source files a {\nroot b\n}", `"root"`},
		"files, duplicate option":  {minimal + "source files a {\nfs b\nfs c\n}", "duplicate option fs"},
		"files, duplicate memory":  {minimal + "source files a {\nmemory off\nmemory 1MiB\n}", "duplicate option memory"},
		"files, bad memory":        {minimal + "source files a {\nmemory 0\n}", `"0" is neither a size nor off`},
		"files, memory of an fs":   {minimal + "source files a {\nfs b\nmemory 1MiB\n}", "not for file systems"},
		"http without a URL":       {minimal + "source http", "argument"},
		"http, surplus argument":   {minimal + "source http http://a http://b", "argument"},
		"http, unknown option":     {minimal + "source http http://a {\nroot b\n}", `"root"`},
		"http, duplicate option":   {minimal + "source http http://a {\ntimeout 1s\ntimeout 2s\n}", "duplicate option timeout"},
		"http, bad timeout":        {minimal + "source http http://a {\ntimeout soon\n}", "soon"},
		"http, bad size":           {minimal + "source http http://a {\nmax_size big\n}", "big"},
		"http, header alone":       {minimal + "source http http://a {\nheader_up X\n}", "argument"},
		"http, unknown transport":  {minimal + "source http http://a {\ntransport pigeon\n}", "pigeon"},
		"cache without a source":   {minimal + "cache", "no source"},
		"cache, argument":          {minimal + "source files b\ncache 5m", "argument"},
		"cache, unknown option":    {minimal + "source files b\ncache {\nttl 5m\n}", `"ttl"`},
		"cache, duplicate option":  {minimal + "source files b\ncache {\nrefresh 5m\nrefresh 6m\n}", "duplicate option refresh"},
		"cache, bad duration":      {minimal + "source files b\ncache {\nrefresh never\n}", "never"},
		"duplicate cache":          {minimal + "source files b\ncache\ncache", "duplicate option cache"},
		"tftp without an address":  {minimal + "source tftp", "argument"},
		"tftp, surplus argument":   {minimal + "source tftp a 69", "argument"},
		"tftp, unknown option":     {minimal + "source tftp a {\nport 69\n}", `"port"`},
		"tftp, windowsize":         {minimal + "source tftp a {\nwindow_size 4\n}", "window_size is not supported by the TFTP library"},
		"tftp, duplicate option":   {minimal + "source tftp a {\nretries 1\nretries 2\n}", "duplicate option retries"},
		"tftp, surplus word":       {minimal + "source tftp a {\nretries 1 2\n}", "argument"},
		"tftp, unexpected block":   {minimal + "source tftp a {\nretries 1 {\nx\n}\n}", "block"},
		"tftp, bad timeout":        {minimal + "source tftp a {\ntimeout soon\n}", `timeout: "soon"`},
		"tftp, bad retries":        {minimal + "source tftp a {\nretries never\n}", `retries: "never"`},
		"tftp, no retries":         {minimal + "source tftp a {\nretries 0\n}", `retries: "0"`},
		"tftp, bad deadline":       {minimal + "source tftp a {\ndeadline -1s\n}", `deadline: "-1s"`},
		"tftp, bad block_size":     {minimal + "source tftp a {\nblock_size 1k\n}", `block_size: "1k"`},
		"tftp, bad max_size":       {minimal + "source tftp a {\nmax_size much\n}", `max_size: "much"`},
		"unknown mode":             {minimal + "mode watch", `"watch"`},
		"duplicate mode":           {minimal + "mode observe\nmode observe", "duplicate option mode"},
		"mode without a word":      {minimal + "mode", "argument"},
		"remember nothing":         {minimal + "remember 0", `"0"`},
		"remember some":            {minimal + "remember some", `"some"`},
		"duplicate remember":       {minimal + "remember 5\nremember 6", "duplicate option remember"},
		"unknown legacy word":      {minimal + "legacy_tls des", `"des"`},
		"repeated legacy word":     {minimal + "legacy_tls rc4 rc4", `"rc4"`},
		"duplicate legacy_tls":     {minimal + "legacy_tls\nlegacy_tls", "duplicate option legacy_tls"},
	} {
		t.Run(name, func(t *testing.T) {
			err := new(Handler).UnmarshalCaddyfile(caddyfile.NewTestDispenser("device_profile {\n" + tt.options + "\n}"))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tt.cause) || !strings.Contains(err.Error(), "Testfile:") {
				t.Errorf("error %q names not both the cause (%s) and the line", err, tt.cause)
			}
		})
	}
}
