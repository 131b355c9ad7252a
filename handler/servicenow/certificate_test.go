package servicenow

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/fault"
	standin "ticketbridge/handler/simulator/servicenow"
)

// issuer is a certificate authority of a test.
type issuer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newIssuer(t *testing.T, name string) issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return issuer{certificate, key}
}

func (i issuer) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(i.certificate)
	return pool
}

// issue makes a certificate that is good until the time, and its key, as PEM.
func (i issuer) issue(t *testing.T, until time.Time) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "ticketbridge"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, i.certificate, private.Public(), i.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// secured starts a stand-in with TLS that asks for certificates of the issuer, and returns what makes a client of it.
func secured(t *testing.T, clients issuer) (instance *standin.Instance, dial func(Config) *Client) {
	t.Helper()
	servers := newIssuer(t, "servers")
	certificate, key := servers.issue(t, time.Now().Add(time.Hour))
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	instance = instanceOf(t, func(c *standin.Config) { c.ClientCAs = clients.pool() })
	url, stop, err := instance.StartTLS("127.0.0.1:0", pair)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return instance, func(cfg Config) *Client {
		cfg.URL = url
		c := client(t, cfg)
		own := c.transport.(*http.Transport)
		own.TLSClientConfig.RootCAs = servers.pool()
		t.Cleanup(own.CloseIdleConnections)
		return c
	}
}

func TestAClientCertificateIsSentBesideAPasswordAndAKey(t *testing.T) {
	t.Parallel()
	clients := newIssuer(t, "clients")
	instance, dial := secured(t, clients)
	certificate, key := clients.issue(t, time.Now().Add(time.Hour))
	folder := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	oneLine := func(text string) string { return strings.ReplaceAll(text, "\n", `\n`) }
	for name, cfg := range map[string]Config{
		"as text":                       {Certificate: certificate, PrivateKey: key},
		"as text on one line":           {Certificate: oneLine(certificate), PrivateKey: oneLine(key)},
		"as files":                      {Certificate: file("certificate.pem", certificate), PrivateKey: file("key.pem", key)},
		"certificate and key in one":    {Certificate: file("both.pem", key+certificate)},
		"beside an API key":             {Certificate: certificate, PrivateKey: key, Auth: AuthAPIKey, APIKey: password},
		"with the chain behind it":      {Certificate: certificate + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: clients.certificate.Raw})), PrivateKey: key},
		"text before it, as openssl is": {Certificate: "Subject: CN=ticketbridge\n" + certificate, PrivateKey: key},
	} {
		rec, err := dial(cfg).Create(t.Context(), draft, correlationID)
		if have, _ := instance.Ticket(rec.SysID); err != nil || have.Fields["sys_created_by"] != "bridge" {
			t.Errorf("%s: %v, created by %q", name, err, have.Fields["sys_created_by"])
		}
	}
}

func TestWithoutACertificateThatIsTrustedNothingIsCreated(t *testing.T) {
	t.Parallel()
	clients := newIssuer(t, "clients")
	instance, dial := secured(t, clients)
	_, err := dial(Config{}).Create(t.Context(), draft, correlationID)
	failed(t, err, fault.Unauthorized)

	for name, from := range map[string]struct {
		issuer issuer
		until  time.Time
	}{"another issuer's": {newIssuer(t, "others"), time.Now().Add(time.Hour)}, "one of yesterday": {clients, time.Now().Add(-time.Minute)}} {
		certificate, key := from.issuer.issue(t, from.until)
		_, err = dial(Config{Certificate: certificate, PrivateKey: key}).Create(t.Context(), draft, correlationID)
		e := failed(t, err, fault.Unauthorized, "certificate was not accepted", "SERVICENOW_CERTIFICATE")
		if strings.Contains(e.Error(), "PRIVATE KEY") {
			t.Errorf("%s: %v", name, e)
		}
	}
	if len(instance.Tickets("task")) != 0 {
		t.Errorf("created %v", instance.Creations())
	}
}

func TestACertificateThatCannotBeUsedStopsTheStart(t *testing.T) {
	t.Parallel()
	one := newIssuer(t, "one")
	certificate, key := one.issue(t, time.Now().Add(time.Hour))
	_, otherKey := one.issue(t, time.Now().Add(time.Hour))
	encrypted := string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("s3cret")}))
	for name, tc := range map[string]struct {
		cfg   Config
		field string
		says  string
	}{
		"a key alone":               {Config{PrivateKey: key}, "SERVICENOW_CERTIFICATE", "is not set"},
		"no key":                    {Config{Certificate: certificate}, "SERVICENOW_PRIVATE_KEY", "is not set"},
		"another certificate's key": {Config{Certificate: certificate, PrivateKey: otherKey}, "SERVICENOW_PRIVATE_KEY", "is not the key of the certificate"},
		"an encrypted key":          {Config{Certificate: certificate, PrivateKey: encrypted}, "SERVICENOW_PRIVATE_KEY", "encrypted"},
		"no file":                   {Config{Certificate: "/nowhere/s3cret.pem", PrivateKey: key}, "SERVICENOW_CERTIFICATE", "cannot be read"},
		"something else":            {Config{Certificate: certificate, PrivateKey: "s3cret\ns3cret"}, "SERVICENOW_PRIVATE_KEY", "neither PEM nor a path"},
		"no certificate in PEM":     {Config{Certificate: "-----BEGIN CERTIFICATE-----\ns3cret\n-----END CERTIFICATE-----", PrivateKey: key}, "SERVICENOW_CERTIFICATE", "no certificate in PEM"},
		"no key in PEM":             {Config{Certificate: certificate, PrivateKey: "-----BEGIN PRIVATE KEY-----\ns3cret"}, "SERVICENOW_PRIVATE_KEY", "no private key in PEM"},
		"beside client credentials": {Config{Certificate: certificate, PrivateKey: key, Auth: AuthClientCredentials, ClientID: "client", ClientSecret: password}, "SERVICENOW_CERTIFICATE", "beside OAuth client credentials"},
	} {
		cfg := tc.cfg
		if cfg.URL = "https://instance.example"; cfg.Auth == "" {
			cfg.Auth, cfg.Username, cfg.Password = AuthBasic, "bridge", password
		}
		_, err := New(cfg)
		if e := failed(t, err, fault.Misconfigured, tc.says); e.Field != tc.field || strings.Contains(e.Error(), "s3cret") || strings.Contains(e.Error(), "BEGIN") {
			t.Errorf("%s: %v of %s, want %s", name, e, e.Field, tc.field)
		}
	}
}

func TestAPieceOfACertificateOrKeyStopsTheStartOrCanBeUsed(t *testing.T) {
	t.Parallel()
	certificate, key := newIssuer(t, "one").issue(t, time.Now().Add(time.Hour))
	for cut := 0; cut < len(certificate); cut += 37 {
		for _, pair := range [][2]string{{certificate[:cut], key}, {certificate, key[:min(cut, len(key))]}, {certificate[cut:], key}} {
			got, err := clientCertificate(pair[0], pair[1])
			if err == nil && got != nil {
				if _, err := x509.ParseCertificate(got.Certificate[0]); err != nil {
					t.Errorf("cut at %d: %v", cut, err)
				}
			} else if err != nil && !fault.Is(err, fault.Misconfigured) {
				t.Errorf("cut at %d: %v", cut, err)
			}
		}
	}
}
