package jobqueue

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

var ctx = context.Background()

// aClient of the server at JOBQUEUE_URL, which is started with --max-wait 1 --default-wait 1.
func aClient(t *testing.T) *Client {
	t.Helper()
	if os.Getenv("JOBQUEUE_URL") == "" {
		t.Fatal("JOBQUEUE_URL is not set: start `jobqueue serve` and say where it is")
	}
	return New()
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// losing is a client that the first answer to does not reach.
func losing(t *testing.T) *Client {
	client, lost := aClient(t), false
	client.HTTP = &http.Client{Transport: roundTrip(func(request *http.Request) (*http.Response, error) {
		response, err := http.DefaultTransport.RoundTrip(request)
		if err == nil && !lost {
			lost = true
			response.Body.Close()
			return nil, io.ErrUnexpectedEOF
		}
		return response, err
	})}
	return client
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// A job that is enqueued again under its id is the same job; another one under it is refused with the API's code and field.
func TestAnIDMakesOneJob(t *testing.T) {
	client, queue := aClient(t), "q-"+newID()
	body := EnqueueBody{Payload: map[string]int{"n": 1}, ID: queue + "/7?", Queue: queue}
	first, again := must(client.Enqueue(ctx, body)), must(client.Enqueue(ctx, body))
	if !first.Created || again.Created || again.ID != body.ID {
		t.Error(first, again)
	}
	if job := must(client.Job(ctx, body.ID, 0)); string(job.Payload) != `{"n":1}` {
		t.Error(job)
	}
	body.Payload = 2
	_, err := client.Enqueue(ctx, body)
	var refused *QueueError
	if !errors.As(err, &refused) || refused.Code != "id_conflict" || refused.Field != "payload" || refused.Status != 409 {
		t.Error(err)
	}
}

// An enqueue and a dequeue whose answers are lost are repeated, and are one job and one attempt.
func TestLostAnswersAreAskedForAgain(t *testing.T) {
	queue := "q-" + newID()
	made := must(losing(t).Enqueue(ctx, EnqueueBody{Payload: "x", Queue: queue}))
	if made.Created {
		t.Error("its first answer was not lost")
	}
	job := must(losing(t).Dequeue(ctx, DequeueBody{Queue: []string{queue}}))
	if job == nil || job.ID != made.ID || job.Attempts != 1 {
		t.Error(job)
	}
	if more := must(aClient(t).Dequeue(ctx, DequeueBody{Queue: []string{queue}})); more != nil {
		t.Error(more)
	}
}

// Who waits for a result is answered it, in several requests where the server does not hold one so long.
func TestAResultIsWaitedFor(t *testing.T) {
	client, queue := aClient(t), "q-"+newID()
	made := must(client.Enqueue(ctx, EnqueueBody{Payload: "x", Queue: queue}))
	asked := 0
	waiting := aClient(t)
	waiting.HTTP = &http.Client{Transport: roundTrip(func(request *http.Request) (*http.Response, error) {
		if asked++; asked == 4 {
			job := must(client.Dequeue(ctx, DequeueBody{Queue: []string{queue}}))
			must(client.Conclude(ctx, job.ID, ConcludeBody{Lease: job.Lease.Token, Outcome: "succeeded", Result: 3}))
		}
		return http.DefaultTransport.RoundTrip(request)
	})}
	var result int
	if err := waiting.Result(ctx, made.ID, 500*time.Second, &result); err != nil || result != 3 || asked != 4 {
		t.Error(err, result, asked)
	}
}

// A job that failed is a JobFailed with its error, one that has not ended a WaitTimeout, and one that was given back another worker's.
func TestHowAJobEnds(t *testing.T) {
	client, queue, no := aClient(t), "q-"+newID(), false
	made := must(client.Enqueue(ctx, EnqueueBody{Payload: "x", Queue: queue}))
	var late *WaitTimeout
	if err := client.Result(ctx, made.ID, 0, nil); !errors.As(err, &late) || late.ID != made.ID {
		t.Error(err)
	}
	job := must(client.Dequeue(ctx, DequeueBody{Queue: []string{queue}}))
	must(client.Release(ctx, job.ID, ReleaseBody{Lease: job.Lease.Token}))
	job = must(client.Dequeue(ctx, DequeueBody{Queue: []string{queue}}))
	if job.Attempts != 1 {
		t.Error("the attempt that was given back counts")
	}
	ending := ConcludeBody{Lease: job.Lease.Token, Outcome: "failed", Error: map[string]string{"message": "no room"}, Retry: &no}
	must(client.Conclude(ctx, job.ID, ending))
	var failed *JobFailed
	if err := client.Result(ctx, made.ID, 0, nil); !errors.As(err, &failed) || !strings.Contains(err.Error(), "no room") {
		t.Error(err)
	}
}

// A server that is away is a NoAnswer with its address, and what answers in its place an UnexpectedAnswer.
func TestNobodyAnswers(t *testing.T) {
	away := aClient(t)
	away.URL, away.Tries = "http://127.0.0.1:1", 2
	_, err := away.Job(ctx, "x", 0)
	var none *NoAnswer
	if !errors.As(err, &none) || !strings.Contains(err.Error(), "http://127.0.0.1:1") {
		t.Error(err)
	}
	proxy := aClient(t)
	proxy.HTTP = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 404, Body: io.NopCloser(strings.NewReader("Not here"))}, nil
	})}
	_, err = proxy.Job(ctx, "x", 0)
	var strange *UnexpectedAnswer
	if !errors.As(err, &strange) || strange.Status != 404 {
		t.Error(err)
	}
}
