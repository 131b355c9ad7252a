package servicenow

import (
	"crypto/tls"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
)

// clientCertificate reads the certificate and the private key for mutual TLS: each as PEM, or as the path of a file that holds PEM. Without a key of its
// own, it is expected beside the certificate.
func clientCertificate(certificate, key string) (*tls.Certificate, error) {
	const certificateSetting, keySetting = "SERVICENOW_CERTIFICATE", "SERVICENOW_PRIVATE_KEY"
	if certificate == "" {
		if key != "" {
			return nil, setting(certificateSetting, "is not set, and "+keySetting+" is; it must hold the certificate that belongs to the key")
		}
		return nil, nil
	}
	chain, err := readPEM(certificateSetting, certificate, "a certificate")
	if err != nil {
		return nil, err
	}
	private := chain
	if key != "" {
		if private, err = readPEM(keySetting, key, "a private key"); err != nil {
			return nil, err
		}
	}
	keys := 0
	for rest := private; ; keys++ {
		block, more := pem.Decode(rest)
		for block != nil && !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			block, more = pem.Decode(more)
		}
		if block == nil {
			break
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return nil, setting(keySetting, "holds a key that is encrypted; it must hold one without a password")
		}
		rest = more
	}
	switch {
	case keys == 0 && key == "":
		return nil, setting(keySetting, "is not set, and "+certificateSetting+" holds no private key beside the certificate")
	case keys == 0:
		return nil, setting(keySetting, "holds no private key in PEM")
	}
	pair, err := tls.X509KeyPair(chain, private)
	if err == nil {
		return &pair, nil
	}
	// What the library says may quote what it read.
	switch text := err.Error(); {
	case strings.Contains(text, "does not match"):
		return nil, setting(keySetting, "is not the key of the certificate in "+certificateSetting)
	case strings.Contains(text, "private key"):
		return nil, setting(keySetting, "holds a private key of a kind that cannot be used")
	default:
		return nil, setting(certificateSetting, "holds no certificate in PEM that can be read")
	}
}

func readPEM(name, value, what string) ([]byte, error) {
	if strings.Contains(value, "-----BEGIN") {
		return []byte(strings.ReplaceAll(value, `\n`, "\n")), nil // on one line, as an environment file holds it
	}
	want := "; it must hold " + what + " in PEM, or the path of a file with it"
	if strings.ContainsAny(value, "\r\n\x00") || len(value) > 1000 {
		return nil, setting(name, "holds neither PEM nor a path"+want)
	}
	text, err := os.ReadFile(filepath.Clean(value))
	if err != nil {
		return nil, setting(name, "names a file that cannot be read"+want)
	}
	return text, nil
}

// refusedCertificates are the alerts with which a server turns a client's certificate down (RFC 8446, section 6.2), as crypto/tls words them.
var refusedCertificates = []string{
	"tls: bad certificate", "tls: unsupported certificate", "tls: revoked certificate", "tls: expired certificate", "tls: unknown certificate",
	"tls: unknown certificate authority", "tls: certificate required", "tls: access denied",
}
