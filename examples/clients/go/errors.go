package jobqueue

import (
	"errors"
	"fmt"
	"time"
)

// QueueError is a refusal of the server's. Code is for programs, Field names the input at fault, Detail is a sentence for people.
type QueueError struct {
	Status      int
	Code        string
	Detail      string
	Field       string
	Unconfirmed bool // the change may have been made all the same
	RetryAfter  time.Duration
	max         *float64
}

func (e *QueueError) Error() string { return e.Detail }

// NoAnswer means that the server is away, or took longer than the time-out.
type NoAnswer struct {
	URL   string
	Cause error
}

func (e *NoAnswer) Error() string { return fmt.Sprintf("no answer from %s: %v", e.URL, e.Cause) }
func (e *NoAnswer) Unwrap() error { return e.Cause }

// UnexpectedAnswer came from something that is not a jobqueue server, such as a proxy.
type UnexpectedAnswer struct {
	Status     int
	Text       string
	RetryAfter time.Duration
}

func (e *UnexpectedAnswer) Error() string {
	return fmt.Sprintf("unexpected answer %d: %s", e.Status, e.Text)
}

// JobFailed means that the job that was waited for ended, and did not succeed.
type JobFailed struct{ Job *Job }

func (e *JobFailed) Error() string {
	return fmt.Sprintf("job %q ended as %s: %s", e.Job.ID, *e.Job.Outcome, e.Job.Error)
}

// WaitTimeout means that the job that was waited for has not ended yet.
type WaitTimeout struct{ ID string }

func (e *WaitTimeout) Error() string { return fmt.Sprintf("job %q has not ended in time", e.ID) }

// Discard is returned by a handler for a job that failed for good and is not to be tried again.
type Discard struct{ Err error }

func (e *Discard) Error() string { return e.Err.Error() }
func (e *Discard) Unwrap() error { return e.Err }

// codes of what may succeed a little later, and of leases that are over.
var (
	passingCodes = []string{"draining", "storage_unavailable", "too_many_connections", "too_many_waiters", "rate_limited", "queue_full"}
	overCodes    = []string{"lease_lost", "not_in_progress", "unknown_job"}
)

func hasCode(err error, codes []string) bool {
	var refused *QueueError
	if !errors.As(err, &refused) {
		return false
	}
	for _, code := range codes {
		if refused.Code == code {
			return true
		}
	}
	return false
}

// passing tells whether the same request may succeed a little later, and after which time the server wants it.
func passing(err error) (bool, time.Duration) {
	var refused *QueueError
	var strange *UnexpectedAnswer
	var away *NoAnswer
	switch {
	case errors.As(err, &refused):
		return hasCode(err, passingCodes), refused.RetryAfter
	case errors.As(err, &strange):
		return strange.Status == 502 || strange.Status == 503 || strange.Status == 504, strange.RetryAfter
	}
	return errors.As(err, &away), 0
}
