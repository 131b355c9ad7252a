package callers

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ticketbridge/handler/fault"
)

// The headers of a signed call: base64 of HMAC-SHA256 over "<timestamp>.<body>", with the timestamp in seconds since 1970. This is what
// ServiceNow's GlideCertificateEncryption.generateMac makes of a base64 key.
const (
	SignatureHeader = "X-Ticketbridge-Signature"
	TimestampHeader = "X-Ticketbridge-Timestamp"
)

// minKey is the smallest key, in bytes, that is taken; 32 are advised.
const minKey = 16

// Sign returns the signature of a body at a time.
func Sign(key []byte, at time.Time, body []byte) string {
	return base64.StdEncoding.EncodeToString(mac(key, strconv.FormatInt(at.Unix(), 10), body))
}

func mac(key []byte, timestamp string, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(timestamp + "."))
	h.Write(body)
	return h.Sum(nil)
}

// checkSignature says whether the body was signed with one of the keys, not long ago. A signature may be used again within that time: the
// endpoints are idempotent.
func checkSignature(keys [][]byte, h http.Header, body []byte, now time.Time) error {
	refuse := func(header, detail string) error {
		return &fault.Error{Op: opCheck, Reason: fault.Unauthorized, Field: header, Detail: detail}
	}
	given, stamp := strings.TrimSpace(h.Get(SignatureHeader)), strings.TrimSpace(h.Get(TimestampHeader))
	switch {
	case given == "":
		return refuse(SignatureHeader, "the call is not signed")
	case stamp == "":
		return refuse(TimestampHeader, "the call has no timestamp")
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return refuse(TimestampHeader, "is not a number of seconds since 1970")
	}
	// Compared as numbers: a time.Duration cannot hold every difference.
	if at := now.Unix(); seconds < at-int64(Skew/time.Second) || seconds > at+int64(Skew/time.Second) {
		return refuse(TimestampHeader, "is more than 5 minutes off; it must be the time of sending in seconds since 1970")
	}
	sum, err := base64.StdEncoding.DecodeString(given)
	if err != nil {
		return refuse(SignatureHeader, "is not base64")
	}
	good := false
	for _, key := range keys { // every key, so that the time taken does not tell which it was
		if hmac.Equal(sum, mac(key, stamp, body)) {
			good = true
		}
	}
	if !good {
		return refuse(SignatureHeader, "is not of this body at this timestamp, with a key that we have")
	}
	return nil
}
