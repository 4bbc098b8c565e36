package jobqueue

import (
	"encoding/json"
	"reflect"
)

// Fields have the names and the meaning that they have on the wire: docs/protocol.md has their units, defaults and bounds.
// Durations are seconds. A zero value is left out of a request, so that the server's default holds.

// EnqueueBody is what a job is enqueued with. With an ID of your own, the same job may be enqueued again safely.
type EnqueueBody struct {
	Payload      any      `json:"payload"`
	ID           string   `json:"id,omitempty"`
	Queue        string   `json:"queue,omitempty"`
	Type         string   `json:"type,omitempty"`
	Description  string   `json:"description,omitempty"`
	Priority     *int     `json:"priority,omitempty"` // 0 is the most urgent
	Delay        float64  `json:"delay,omitempty"`
	RunAt        string   `json:"run_at,omitempty"` // RFC 3339
	ExpiresIn    float64  `json:"expires_in,omitempty"`
	MaxAttempts  int      `json:"max_attempts,omitempty"`
	Backoff      *Backoff `json:"backoff,omitempty"`
	LeaseSeconds float64  `json:"lease_seconds,omitempty"`
	Key          string   `json:"key,omitempty"`
	Tags         []string `json:"tags,omitempty"`
	After        []string `json:"after,omitempty"`
	Group        string   `json:"group,omitempty"`
}

// Backoff says how long a job waits before its next attempt.
type Backoff struct {
	Base   *float64 `json:"base,omitempty"`
	Factor *float64 `json:"factor,omitempty"`
	Cap    *float64 `json:"cap,omitempty"`
}

// DequeueBody says which job is taken. Wait is how long the request is held when there is none.
type DequeueBody struct {
	Queue        []string `json:"queue,omitempty"`
	Wait         float64  `json:"wait"`
	LeaseSeconds float64  `json:"lease_seconds,omitempty"`
	Worker       string   `json:"worker,omitempty"`
	AttemptID    string   `json:"attempt_id,omitempty"`
	Host         string   `json:"host,omitempty"`
	Concurrency  int      `json:"concurrency,omitempty"`
	Version      string   `json:"version,omitempty"`
}

// ExtendBody is a heartbeat.
type ExtendBody struct {
	Lease        string   `json:"lease"`
	LeaseSeconds *float64 `json:"lease_seconds,omitempty"` // 0 ends the lease at once
	Progress     *float64 `json:"progress,omitempty"`
	Message      *string  `json:"message,omitempty"`
}

// ConcludeBody says how an attempt ended. Retry false makes a failure final.
type ConcludeBody struct {
	Lease      string   `json:"lease"`
	Outcome    string   `json:"outcome"`
	Result     any      `json:"result,omitempty"`
	Error      any      `json:"error,omitempty"`
	Retry      *bool    `json:"retry,omitempty"`
	RetryDelay *float64 `json:"retry_delay,omitempty"`
	Late       bool     `json:"late,omitempty"`
}

// ReleaseBody gives a job back.
type ReleaseBody struct {
	Lease string  `json:"lease"`
	Delay float64 `json:"delay,omitempty"`
}

// Enqueued is what an enqueue answers. Created is false where the job existed already.
type Enqueued struct {
	ID        string  `json:"id"`
	Queue     string  `json:"queue"`
	Type      *string `json:"type"`
	Priority  int     `json:"priority"`
	Status    string  `json:"status"`
	CreatedAt string  `json:"created_at"`
	RunAt     *string `json:"run_at"`
	ExpiresAt *string `json:"expires_at"`
	Created   bool    `json:"created"`
}

// Lease proves that a job is yours.
type Lease struct {
	Token     string `json:"token"`
	ExpiresAt string `json:"expires_at"`
}

// Dequeued is a job as a worker is handed it. Error is that of the last attempt that failed.
type Dequeued struct {
	ID          string          `json:"id"`
	Number      int             `json:"number"`
	Queue       string          `json:"queue"`
	Type        *string         `json:"type"`
	Description *string         `json:"description"`
	Priority    int             `json:"priority"`
	Attempts    int             `json:"attempts"`
	CreatedAt   string          `json:"created_at"`
	Lease       Lease           `json:"lease"`
	Error       json.RawMessage `json:"error"`
	Payload     json.RawMessage `json:"payload"`
	Key         string          `json:"key,omitempty"`
	Tags        []string        `json:"tags,omitempty"`
}

// Extended is what a heartbeat answers.
type Extended struct {
	ID              string `json:"id"`
	ExpiresAt       string `json:"expires_at"`
	CancelRequested bool   `json:"cancel_requested"`
}

// Concluded is how a job stands after a conclude.
type Concluded struct {
	ID       string  `json:"id"`
	Status   string  `json:"status"`
	Outcome  *string `json:"outcome"`
	Attempts int     `json:"attempts"`
	RunAt    *string `json:"run_at"`
}

// Job is a job as anyone may see it. What Cancel and Release answer has neither Result nor Payload.
type Job struct {
	ID              string          `json:"id"`
	Queue           string          `json:"queue"`
	Type            *string         `json:"type"`
	Priority        int             `json:"priority"`
	Status          string          `json:"status"`
	Outcome         *string         `json:"outcome"`
	Attempts        int             `json:"attempts"`
	MaxAttempts     *int            `json:"max_attempts"`
	CreatedAt       string          `json:"created_at"`
	RunAt           *string         `json:"run_at"`
	ExpiresAt       *string         `json:"expires_at"`
	StartedAt       *string         `json:"started_at"`
	ConcludedAt     *string         `json:"concluded_at"`
	Worker          *string         `json:"worker"`
	Progress        *float64        `json:"progress"`
	Message         *string         `json:"message"`
	CancelRequested bool            `json:"cancel_requested"`
	Error           json.RawMessage `json:"error"`
	Key             *string         `json:"key"`
	Tags            []string        `json:"tags"`
	Result          json.RawMessage `json:"result,omitempty"`
	Payload         json.RawMessage `json:"payload,omitempty"`
}

// problem is the body of an error (RFC 9457).
type problem struct {
	Status      int      `json:"status"`
	Code        string   `json:"code"`
	Detail      string   `json:"detail"`
	Field       *string  `json:"field,omitempty"`
	Unconfirmed bool     `json:"unconfirmed,omitempty"`
	Max         *float64 `json:"max,omitempty"`
}

// operation is a request that the client makes. The tests hold each to the server's OpenAPI document.
type operation struct {
	method, path   string
	sends, answers reflect.Type
	query          string
	empty          bool // the server may answer 204, without a body
}

var (
	opEnqueue  = operation{"POST", "/jobs/enqueue", reflect.TypeOf(EnqueueBody{}), reflect.TypeOf(Enqueued{}), "", false}
	opDequeue  = operation{"POST", "/jobs/dequeue", reflect.TypeOf(DequeueBody{}), reflect.TypeOf(Dequeued{}), "", true}
	opExtend   = operation{"POST", "/jobs/{id}/extend", reflect.TypeOf(ExtendBody{}), reflect.TypeOf(Extended{}), "", false}
	opConclude = operation{"POST", "/jobs/{id}/conclude", reflect.TypeOf(ConcludeBody{}), reflect.TypeOf(Concluded{}), "", false}
	opRelease  = operation{"POST", "/jobs/{id}/release", reflect.TypeOf(ReleaseBody{}), reflect.TypeOf(Job{}), "", false}
	opJob      = operation{"GET", "/jobs/{id}", nil, reflect.TypeOf(Job{}), "wait", false}
	opCancel   = operation{"POST", "/jobs/{id}/cancel", nil, reflect.TypeOf(Job{}), "", false}
)

var operations = []operation{opEnqueue, opDequeue, opExtend, opConclude, opRelease, opJob, opCancel}
