package api

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Why a verb is refused, as a caller's program can tell.
const (
	BadInput   = codes.InvalidArgument    // the request cannot be understood
	Unknown    = codes.NotFound           // there is no such machine here
	Exists     = codes.AlreadyExists      // there is one already
	NotNow     = codes.FailedPrecondition // not in the machine's present state
	Busy       = codes.Aborted            // another call is at the machine
	Failed     = codes.Internal           // it was tried, and failed
	Undecided  = codes.Unavailable        // somebody has not answered, and the outcome is open
	CallerWent = codes.Canceled           // nobody waited for the outcome
)

// Refuse is the error of a verb that is refused, or fails, for a reason.
func Refuse(why codes.Code, format string, args ...any) error {
	return status.Errorf(why, format, args...)
}
