package callers

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
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
	return base64.StdEncoding.EncodeToString(mac(hmac.New(sha256.New, key), strconv.FormatInt(at.Unix(), 10), body))
}

func mac(h hash.Hash, timestamp string, body []byte) []byte {
	h.Write([]byte(timestamp + "."))
	h.Write(body)
	return h.Sum(nil)
}

// checkSignature says whether the body was signed with one of the keys, not long ago. A signature may be used again within that time: the
// endpoints are idempotent.
func checkSignature(macs []func() hash.Hash, h http.Header, body []byte, now time.Time) error {
	refuse := func(header, detail string) error {
		return &fault.Error{Op: opCheck, Reason: fault.Unauthorized, Field: header, Detail: detail}
	}
	given, stamp := strings.TrimSpace(h.Get(SignatureHeader)), strings.TrimSpace(h.Get(TimestampHeader))
	sum, notBase64 := base64.StdEncoding.DecodeString(given)
	// Every key, and before anything else is judged: neither the time of the call nor the key that signed it shows in the time taken.
	good := false
	for _, start := range macs {
		if hmac.Equal(sum, mac(start(), stamp, body)) {
			good = true
		}
	}
	for _, header := range []string{SignatureHeader, TimestampHeader} {
		// The Functions host joins repeated headers with ", ", which neither of these can hold.
		if len(h.Values(header)) > 1 || strings.Contains(h.Get(header), ",") {
			return refuse(header, "there must be one such header")
		}
	}
	seconds, notNumber := strconv.ParseInt(stamp, 10, 64)
	const tolerance = int64(Skew / time.Second)
	switch at := now.Unix(); {
	case given == "":
		return refuse(SignatureHeader, "the call is not signed")
	case stamp == "":
		return refuse(TimestampHeader, "the call has no timestamp")
	case notNumber != nil:
		return refuse(TimestampHeader, "is not a number of seconds since 1970")
	case seconds < at-tolerance || seconds > at+tolerance: // as numbers: a time.Duration cannot hold every difference
		return refuse(TimestampHeader, "is more than 5 minutes off; it must be the time of sending in seconds since 1970")
	case notBase64 != nil:
		return refuse(SignatureHeader, "is not base64")
	case !good:
		return refuse(SignatureHeader, "is not of this body at this timestamp, with a key that we have")
	}
	return nil
}
