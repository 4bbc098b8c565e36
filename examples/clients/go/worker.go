package jobqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"sync"
	"time"
)

const (
	beatMax      = 5 * time.Second // so that a cancel is noticed soon
	giveBackTime = 2 * time.Second // for interrupted handlers to return
)

// A Handler does a job. What it returns first is the job's result; an error fails the attempt. ctx is done when the job was cancelled, its
// lease was lost, or the worker stops: job.Reason says which.
type Handler func(ctx context.Context, job *RunningJob) (any, error)

// RunningJob is what a handler is given.
type RunningJob struct {
	Dequeued
	stop     context.CancelFunc
	mutex    sync.Mutex
	reason   string
	progress *float64
	message  *string
}

// Reason is why ctx is done: "cancelled", "lease_lost" or "stopping"; "" before.
func (j *RunningJob) Reason() string {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	return j.reason
}

// Report says how far the job is, 0 to 1, and at what. The next heartbeat tells the server.
func (j *RunningJob) Report(progress float64, message string) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	j.progress, j.message = &progress, &message
}

func (j *RunningJob) end(reason string) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	if j.reason == "" {
		j.reason = reason
	}
	j.stop()
}

// Worker takes jobs and has its handler do them. Fields are set before Run.
type Worker struct {
	Client       *Client
	Queues       []string // in order of preference
	Concurrency  int      // how many jobs run at once; 1 if not set
	LeaseSeconds float64  // after which another worker gets the job when this process dies; 60 if not set
	Grace        time.Duration
	Name         string
	Version      string
	Handler      Handler
	Logf         func(format string, values ...any)

	mutex   sync.Mutex
	running map[*RunningJob]bool
	group   sync.WaitGroup
}

// Run works until ctx is done, as by signal.NotifyContext. Then it takes no more, gives back what was not begun, and lets running jobs finish
// within Grace (30 s if not set, none if below zero); what still runs is interrupted and given back. It returns an error when the server refuses
// the worker, as with a wrong token.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.prepare(); err != nil {
		return err
	}
	err := w.takeJobs(ctx)
	finished := make(chan struct{})
	go func() { w.group.Wait(); close(finished) }()
	if !within(w.Grace, finished) {
		w.mutex.Lock()
		left := make([]*RunningJob, 0, len(w.running))
		for job := range w.running {
			left = append(left, job)
		}
		w.mutex.Unlock()
		for _, job := range left {
			job.end("stopping")
			w.giveBack(&job.Dequeued)
		}
		within(giveBackTime, finished)
	}
	return err
}

func (w *Worker) prepare() error {
	if w.Concurrency == 0 {
		w.Concurrency = 1
	}
	if w.LeaseSeconds == 0 {
		w.LeaseSeconds = 60
	}
	if w.Grace == 0 {
		w.Grace = 30 * time.Second
	}
	if w.Logf == nil {
		w.Logf = log.Printf
	}
	switch {
	case w.Client == nil || w.Handler == nil:
		return errors.New("a worker needs a Client and a Handler")
	case w.Concurrency < 1:
		return fmt.Errorf("Concurrency: must be 1 or more, not %d", w.Concurrency)
	case w.LeaseSeconds < 1:
		return fmt.Errorf("LeaseSeconds: must be 1 or more, not %v", w.LeaseSeconds)
	}
	if w.Name == "" {
		host, _ := os.Hostname()
		w.Name = fmt.Sprintf("%s:%d:%s", host, os.Getpid(), newID()[:8])
	}
	w.running = map[*RunningJob]bool{}
	return nil
}

func (w *Worker) takeJobs(ctx context.Context) error {
	slots := make(chan struct{}, w.Concurrency)
	for failures := 0; ; {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		job, retryAfter, err := w.take(ctx)
		if job != nil && ctx.Err() == nil {
			failures = 0
			w.begin(job, slots)
			continue
		}
		<-slots
		if job != nil {
			w.giveBack(job)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			again, asked := passing(err)
			if !again {
				return err
			}
			if failures == 0 {
				w.Logf("worker %s: %v; trying again", w.Name, err)
			}
			retryAfter = pauseBefore(failures, asked)
			failures++
		} else {
			failures = 0
		}
		_ = pause(ctx, retryAfter) // after an empty answer: told to be quiet, or the server shuts down
	}
}

// take asks for a job. When the worker stops meanwhile, a repeat that does not wait ends the request that is held, and is answered the job
// that this one may have been answered by now.
func (w *Worker) take(ctx context.Context) (*Dequeued, time.Duration, error) {
	host, _ := os.Hostname()
	body := DequeueBody{
		Queue: w.Queues, LeaseSeconds: w.LeaseSeconds, Worker: w.Name, AttemptID: newID(), Host: host, Concurrency: w.Concurrency, Version: w.Version,
	}
	job, retryAfter, err := w.Client.take(ctx, body, heldMax)
	if ctx.Err() == nil || job != nil {
		return job, retryAfter, err
	}
	late, cancel := context.WithTimeout(context.Background(), w.Client.Timeout)
	defer cancel()
	return w.Client.take(late, body, 0)
}

func (w *Worker) giveBack(job *Dequeued) {
	limited, cancel := context.WithTimeout(context.Background(), w.Client.Timeout)
	defer cancel()
	_, err := w.Client.Release(limited, job.ID, ReleaseBody{Lease: job.Lease.Token})
	w.notTold(job.ID, err)
}

// notTold: the lease of a job that could not be given back or concluded ends by itself, and the job is handed out again.
func (w *Worker) notTold(id string, err error) {
	if err != nil && !hasCode(err, overCodes) {
		w.Logf("worker %s: job %s: %v", w.Name, id, err)
	}
}

func (w *Worker) begin(taken *Dequeued, slots chan struct{}) {
	ctx, stop := context.WithCancel(context.Background())
	job := &RunningJob{Dequeued: *taken, stop: stop}
	w.mutex.Lock()
	w.running[job] = true
	w.mutex.Unlock()
	w.group.Add(1)
	go func() {
		defer w.group.Done()
		done, told := context.WithCancel(context.Background())
		go w.beat(done, job)
		w.work(ctx, job)
		told()
		stop()
		w.mutex.Lock()
		delete(w.running, job)
		w.mutex.Unlock()
		<-slots
	}()
}

func (w *Worker) work(ctx context.Context, job *RunningJob) {
	ending := ConcludeBody{Lease: job.Lease.Token, Outcome: "succeeded", Late: true}
	result, err := w.handle(ctx, job)
	if reason := job.Reason(); reason == "lease_lost" || reason == "stopping" {
		return
	}
	if err == nil {
		text, wrong := json.Marshal(result)
		ending.Result, err = json.RawMessage(text), wrong
	}
	if err != nil {
		if job.Reason() == "" {
			w.Logf("worker %s: job %s, attempt %d: %v", w.Name, job.ID, job.Attempts, err)
		}
		ending = failure(job, err)
	}
	// A server that is away may be back in time: heartbeats go on until it has been told.
	limited, cancel := context.WithTimeout(context.Background(), seconds(w.LeaseSeconds))
	defer cancel()
	for attempt := 0; ; attempt++ {
		_, err = w.Client.Conclude(limited, job.ID, ending)
		var refused *QueueError
		if errors.As(err, &refused) && refused.Field == "result" {
			ending = failure(job, err)
			continue
		}
		if again, asked := passing(err); !again || pause(limited, pauseBefore(attempt, asked)) != nil {
			break
		}
	}
	w.notTold(job.ID, err)
}

func (w *Worker) handle(ctx context.Context, job *RunningJob) (result any, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("panic: %v", panicked)
		}
	}()
	return w.Handler(ctx, job)
}

func failure(job *RunningJob, err error) ConcludeBody {
	var discard *Discard
	retry := !errors.As(err, &discard)
	told := map[string]string{"type": fmt.Sprintf("%T", err), "message": err.Error()}
	return ConcludeBody{Lease: job.Lease.Token, Outcome: "failed", Error: told, Retry: &retry}
}

// beat extends the lease three times within its length, until the work is done.
func (w *Worker) beat(done context.Context, job *RunningJob) {
	every := seconds(w.LeaseSeconds / 3)
	if every > beatMax {
		every = beatMax
	}
	for pause(done, every) == nil {
		job.mutex.Lock()
		body := ExtendBody{Lease: job.Lease.Token, LeaseSeconds: &w.LeaseSeconds, Progress: job.progress, Message: job.message}
		job.mutex.Unlock()
		answer, err := w.Client.Extend(done, job.ID, body)
		switch {
		case done.Err() != nil:
			return
		case hasCode(err, overCodes):
			job.end("lease_lost")
			return
		case err != nil:
			w.Logf("worker %s: job %s: heartbeat: %v", w.Name, job.ID, err)
		case answer.CancelRequested:
			job.end("cancelled")
		}
	}
}

func within(limit time.Duration, finished <-chan struct{}) bool {
	select {
	case <-finished:
		return true
	case <-time.After(limit):
		return false
	}
}
