package doctor

import (
	"context"
	"errors"
	"net"
	"net/url"
)

// silence says why no answer came, without the address, which may have a key in it.
func silence(ctx context.Context, err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		return errors.New("no connection: " + dial.Err.Error())
	}
	return err
}
