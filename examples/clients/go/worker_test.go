package jobqueue

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const patience = 60 * time.Second

func quietly(string, ...any) {}

// working runs a worker while during does its work, then stops it.
func working(t *testing.T, w *Worker, during func()) {
	t.Helper()
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(running) }()
	during()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func aWorker(t *testing.T, handler Handler) (*Worker, *Client, string) {
	queue := "q-" + newID()
	return &Worker{Client: aClient(t), Queues: []string{queue}, Handler: handler, Logf: quietly}, aClient(t), queue
}

// Jobs are concluded with the results of the handler, as many at once as Concurrency says.
func TestJobsAreDoneSeveralAtOnce(t *testing.T) {
	var running, most int32
	three := make(chan struct{})
	w, client, queue := aWorker(t, func(_ context.Context, job *RunningJob) (any, error) {
		now := atomic.AddInt32(&running, 1)
		if now > atomic.LoadInt32(&most) {
			atomic.StoreInt32(&most, now)
		}
		if now == 3 {
			close(three)
		}
		<-three
		atomic.AddInt32(&running, -1)
		var n int
		err := json.Unmarshal(job.Payload, &n)
		return n * 2, err
	})
	w.Concurrency = 3
	working(t, w, func() {
		var ids []string
		for n := 0; n < 3; n++ {
			ids = append(ids, must(client.Enqueue(ctx, EnqueueBody{Payload: n, Queue: queue})).ID)
		}
		for n, id := range ids {
			var result int
			if err := client.Result(ctx, id, patience, &result); err != nil || result != 2*n {
				t.Error(err, result)
			}
		}
	})
	if most != 3 {
		t.Error(most)
	}
}

// An error or a panic fails the attempt, and the job is tried again; after a Discard it is not.
func TestFailures(t *testing.T) {
	w, client, queue := aWorker(t, func(_ context.Context, job *RunningJob) (any, error) {
		switch {
		case string(job.Payload) == `"discard"`:
			return nil, &Discard{errors.New("no such address")}
		case job.Attempts == 1:
			panic("no such page")
		}
		return string(job.Error), nil
	})
	zero := 0.0
	working(t, w, func() {
		made := must(client.Enqueue(ctx, EnqueueBody{Payload: "again", Queue: queue, Backoff: &Backoff{Base: &zero}}))
		var result string
		if err := client.Result(ctx, made.ID, patience, &result); err != nil || !strings.Contains(result, `"message":"panic: no such page"`) {
			t.Error(err, result)
		}
		made = must(client.Enqueue(ctx, EnqueueBody{Payload: "discard", Queue: queue}))
		var failed *JobFailed
		if err := client.Result(ctx, made.ID, patience, nil); !errors.As(err, &failed) || failed.Job.Attempts != 1 {
			t.Error(err)
		}
	})
}

// A result that is no JSON, or too large, fails the job with the reason.
func TestResultsThatCannotBe(t *testing.T) {
	w, client, queue := aWorker(t, func(_ context.Context, job *RunningJob) (any, error) {
		if string(job.Payload) == "1" {
			return make(chan int), nil
		}
		return strings.Repeat("x", 1<<21), nil
	})
	working(t, w, func() {
		for n := 1; n <= 2; n++ {
			made := must(client.Enqueue(ctx, EnqueueBody{Payload: n, Queue: queue, MaxAttempts: 1}))
			var failed *JobFailed
			if err := client.Result(ctx, made.ID, patience, nil); !errors.As(err, &failed) || len(failed.Job.Error) < 20 {
				t.Error(err)
			}
		}
	})
}

// Heartbeats keep the lease of a job that takes longer than that, and tell its progress.
func TestHeartbeats(t *testing.T) {
	enough := make(chan struct{})
	w, client, queue := aWorker(t, func(_ context.Context, job *RunningJob) (any, error) {
		job.Report(0.25, "page 1 of 4")
		<-enough
		return job.Attempts, nil
	})
	beats := 0
	w.LeaseSeconds = 1
	w.Client.HTTP = &http.Client{Transport: roundTrip(func(request *http.Request) (*http.Response, error) {
		response, err := http.DefaultTransport.RoundTrip(request)
		if strings.HasSuffix(request.URL.Path, "/extend") {
			if beats++; beats == 5 { // of a third of a second each: the first lease is over
				close(enough)
			}
		}
		return response, err
	})}
	working(t, w, func() {
		made := must(client.Enqueue(ctx, EnqueueBody{Payload: 1, Queue: queue}))
		<-enough
		if job := must(client.Job(ctx, made.ID, 0)); job.Status == "in_progress" && *job.Message != "page 1 of 4" {
			t.Error(*job.Message)
		}
		var attempts int
		if err := client.Result(ctx, made.ID, patience, &attempts); err != nil || attempts != 1 {
			t.Error(err, attempts)
		}
	})
}

// A handler whose job is cancelled, or whose lease is lost, is told by its context.
func TestAHandlerIsToldToStop(t *testing.T) {
	begun, reasons := make(chan string, 1), make(chan string, 1)
	w, client, queue := aWorker(t, func(working context.Context, job *RunningJob) (any, error) {
		if job.Attempts == 2 {
			return "of the second", nil
		}
		begun <- job.Lease.Token
		<-working.Done()
		reasons <- job.Reason()
		return "of the first", nil
	})
	w.LeaseSeconds = 1
	working(t, w, func() {
		made := must(client.Enqueue(ctx, EnqueueBody{Payload: 1, Queue: queue}))
		<-begun
		must(client.Cancel(ctx, made.ID))
		if job := must(client.Job(ctx, made.ID, patience)); *job.Outcome != "cancelled" || <-reasons != "cancelled" {
			t.Error(job)
		}
		made = must(client.Enqueue(ctx, EnqueueBody{Payload: 2, Queue: queue}))
		zero := 0.0
		must(client.Extend(ctx, made.ID, ExtendBody{Lease: <-begun, LeaseSeconds: &zero}))
		var result string
		if err := client.Result(ctx, made.ID, patience, &result); err != nil || result != "of the second" || <-reasons != "lease_lost" {
			t.Error(err, result)
		}
	})
}

// Stopping lets what runs finish; what still runs after the grace is given back, and the attempt does not count.
func TestStopping(t *testing.T) {
	for _, grace := range []time.Duration{0, -1} {
		begun, finish := make(chan struct{}), make(chan struct{})
		w, client, queue := aWorker(t, func(working context.Context, job *RunningJob) (any, error) {
			close(begun)
			select {
			case <-finish:
			case <-working.Done():
			}
			return "finished", nil
		})
		w.Grace = grace
		running, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- w.Run(running) }()
		made := must(client.Enqueue(ctx, EnqueueBody{Payload: 1, Queue: queue}))
		<-begun
		stop()
		if grace == 0 {
			close(finish)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		job := must(client.Job(ctx, made.ID, 0))
		if grace == 0 && string(job.Result) != `"finished"` || grace < 0 && (job.Status != "queued" || job.Attempts != 0) {
			t.Error(grace, job)
		}
	}
}

// Stopping gives back a job that was taken and not begun.
func TestStoppingGivesBack(t *testing.T) {
	w, client, queue := aWorker(t, func(context.Context, *RunningJob) (any, error) { t.Error("it was begun"); return nil, nil })
	running, stop := context.WithCancel(ctx)
	w.Client.HTTP = &http.Client{Transport: roundTrip(func(request *http.Request) (*http.Response, error) {
		response, err := http.DefaultTransport.RoundTrip(request)
		if err == nil && request.URL.Path == "/jobs/dequeue" && response.StatusCode == 200 {
			stop() // while the answer is on its way
		}
		return response, err
	})}
	made := must(client.Enqueue(ctx, EnqueueBody{Payload: 1, Queue: queue}))
	if err := w.Run(running); err != nil {
		t.Error(err)
	}
	if job := must(client.Job(ctx, made.ID, 0)); job.Status != "queued" || job.Attempts != 0 {
		t.Error(job)
	}
}

// A worker that the server refuses ends with the error; one whose fields cannot be says which.
func TestAWorkerThatIsRefused(t *testing.T) {
	w, _, _ := aWorker(t, func(context.Context, *RunningJob) (any, error) { return nil, nil })
	w.Queues = []string{"not a name"}
	var refused *QueueError
	if err := w.Run(ctx); !errors.As(err, &refused) || refused.Code != "bad_request" || refused.Field != "queue" {
		t.Error(err)
	}
	w.Concurrency = -1
	if err := w.Run(ctx); err == nil || !strings.HasPrefix(err.Error(), "Concurrency: ") {
		t.Error(err)
	}
}
