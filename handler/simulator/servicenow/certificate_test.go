package servicenow_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"ticketbridge/handler/simulator/servicenow"
)

// selfSigned is a certificate that is its own authority, for a server or a caller on this machine.
func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestMutualAuthenticationWantsACertificateBesideTheCredentials(t *testing.T) {
	t.Parallel()
	ours, oursPool := selfSigned(t)
	server, serverPool := selfSigned(t)
	s := start(t, func(c *servicenow.Config) {
		c.ClientCAs = oursPool
		c.APIKeys = []servicenow.APIKey{{Key: "k", User: "bridge"}}
		c.OAuthClients = []servicenow.OAuthClient{{ID: "id", Secret: "hush", User: "bridge"}}
	})
	s.do("GET", incidents, nil).fails(401) // not even with TLS
	address, stop, err := s.StartTLS("127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	with := func(certificates ...tls.Certificate) *site {
		caller := *s
		caller.url, caller.header = address, s.header.Clone()
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: serverPool, Certificates: certificates}}
		t.Cleanup(transport.CloseIdleConnections)
		caller.client = &http.Client{Transport: transport}
		return &caller
	}
	with().do("GET", incidents, nil).fails(401)
	certified := with(ours)
	if rec := certified.create("incident", nil); rec["sys_created_by"] != "bridge" {
		t.Errorf("created by %v", rec["sys_created_by"])
	}
	certified.with("x-sn-apikey", "k").do("GET", incidents, nil).want(200)
	certified.with("", "").do("GET", incidents, nil).fails(401) // the certificate alone is nobody

	var token struct {
		AccessToken string `json:"access_token"`
	}
	answer := certified.token(url.Values{"grant_type": {"client_credentials"}, "client_id": {"id"}, "client_secret": {"hush"}}).want(200)
	if err := json.Unmarshal([]byte(answer.text), &token); err != nil {
		t.Fatal(err)
	}
	certified.with("Authorization", "Bearer "+token.AccessToken).do("GET", incidents, nil).fails(401)
}
