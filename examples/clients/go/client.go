// Package jobqueue is a small client and worker for jobqueue.
package jobqueue

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	mathrand "math/rand"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	heldMax  = 50 * time.Second // of one request; the server's own maximum is learned from its answer
	pauseMin = 100 * time.Millisecond
	pauseMax = 5 * time.Second
)

// Client asks one server. It may be used by several goroutines.
type Client struct {
	URL     string
	Token   string
	Timeout time.Duration // of each try, on top of the time that the server was asked to wait
	Tries   int           // how often a request is sent at most when no answer comes or the server is busy
	HTTP    *http.Client

	mutex sync.Mutex
	held  time.Duration
}

// New makes a client of JOBQUEUE_URL, or http://127.0.0.1:8080, with JOBQUEUE_TOKEN. Its fields may be changed before it is used.
func New() *Client {
	base := os.Getenv("JOBQUEUE_URL")
	if base == "" {
		base = "http://127.0.0.1:8080"
	}
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	web := &http.Client{CheckRedirect: refuse} // a token goes to no other server
	return &Client{URL: base, Token: os.Getenv("JOBQUEUE_TOKEN"), Timeout: 10 * time.Second, Tries: 5, HTTP: web, held: heldMax}
}

// Enqueue submits a job. Without an ID the client makes one, so that it may try again safely.
func (c *Client) Enqueue(ctx context.Context, body EnqueueBody) (*Enqueued, error) {
	if body.ID == "" {
		body.ID = newID()
	}
	answer := new(Enqueued)
	_, err := c.call(ctx, opEnqueue, "", body, 0, answer)
	return answer, err
}

// Dequeue takes a job; nil when none came within body.Wait seconds. Worker does this for you.
func (c *Client) Dequeue(ctx context.Context, body DequeueBody) (*Dequeued, error) {
	var job *Dequeued
	err := c.until(ctx, seconds(body.Wait), func(wait time.Duration) (bool, time.Duration, error) {
		each := body
		if each.AttemptID == "" {
			each.AttemptID = newID()
		}
		var retryAfter time.Duration
		var err error
		job, retryAfter, err = c.take(ctx, each, wait)
		return job != nil, retryAfter, err
	})
	return job, err
}

func (c *Client) take(ctx context.Context, body DequeueBody, wait time.Duration) (*Dequeued, time.Duration, error) {
	job := new(Dequeued)
	var retryAfter time.Duration
	err := c.holding(wait, func(wait time.Duration) (err error) {
		body.Wait = wait.Seconds()
		retryAfter, err = c.call(ctx, opDequeue, "", body, wait, job)
		return err
	})
	if err != nil || job.ID == "" {
		return nil, retryAfter, err
	}
	return job, retryAfter, nil
}

// Extend is a heartbeat.
func (c *Client) Extend(ctx context.Context, id string, body ExtendBody) (*Extended, error) {
	answer := new(Extended)
	_, err := c.call(ctx, opExtend, id, body, 0, answer)
	return answer, err
}

// Conclude finishes an attempt.
func (c *Client) Conclude(ctx context.Context, id string, body ConcludeBody) (*Concluded, error) {
	answer := new(Concluded)
	_, err := c.call(ctx, opConclude, id, body, 0, answer)
	return answer, err
}

// Release gives a job back. The attempt does not count.
func (c *Client) Release(ctx context.Context, id string, body ReleaseBody) (*Job, error) {
	answer := new(Job)
	_, err := c.call(ctx, opRelease, id, body, 0, answer)
	return answer, err
}

// Cancel cancels a job; one that runs is asked to stop by its next heartbeat.
func (c *Client) Cancel(ctx context.Context, id string) (*Job, error) {
	answer := new(Job)
	_, err := c.call(ctx, opCancel, id, nil, 0, answer)
	return answer, err
}

// Job is the job as it is; with a wait, once it is concluded or the wait is over.
func (c *Client) Job(ctx context.Context, id string, wait time.Duration) (*Job, error) {
	var job *Job
	err := c.until(ctx, wait, func(wait time.Duration) (bool, time.Duration, error) {
		job = new(Job)
		var retryAfter time.Duration
		err := c.holding(wait, func(wait time.Duration) (err error) {
			retryAfter, err = c.call(ctx, opJob, id, nil, wait, job)
			return err
		})
		return job.Status == "concluded", retryAfter, err
	})
	return job, err
}

// Result reads the result of a job into result, once it has succeeded. Otherwise it returns a JobFailed or a WaitTimeout.
func (c *Client) Result(ctx context.Context, id string, wait time.Duration, result any) error {
	job, err := c.Job(ctx, id, wait)
	switch {
	case err != nil:
		return err
	case job.Status != "concluded":
		return &WaitTimeout{id}
	case *job.Outcome != "succeeded":
		return &JobFailed{job}
	}
	return json.Unmarshal(job.Result, result)
}

// until asks again and again until there is what was waited for, or the wait is over.
func (c *Client) until(ctx context.Context, wait time.Duration, ask func(time.Duration) (bool, time.Duration, error)) error {
	end := time.Now().Add(wait)
	for left := wait; ; left = time.Until(end) {
		if left < 0 {
			left = 0
		}
		there, retryAfter, err := ask(left)
		if left = time.Until(end); err != nil || there || left <= 0 {
			return err
		}
		if retryAfter > left {
			retryAfter = left
		}
		// A server that shuts down answers at once and says when to come back.
		if err := pause(ctx, retryAfter); err != nil {
			return err
		}
	}
}

// holding asks to be held so long, in one request; if the server does not hold so long, it asks for what the server does.
func (c *Client) holding(wait time.Duration, ask func(time.Duration) error) error {
	c.mutex.Lock()
	if c.held == 0 {
		c.held = heldMax
	}
	if wait > c.held {
		wait = c.held
	}
	c.mutex.Unlock()
	err := ask(wait)
	var refused *QueueError
	if !errors.As(err, &refused) || refused.Field != "wait" || refused.max == nil || seconds(*refused.max) >= wait {
		return err
	}
	c.mutex.Lock()
	c.held = seconds(*refused.max)
	c.mutex.Unlock()
	return ask(seconds(*refused.max))
}

// call does one operation, with as many tries as it takes. Each may be repeated: by its id, its attempt_id or its lease.
func (c *Client) call(ctx context.Context, op operation, id string, body any, wait time.Duration, answer any) (time.Duration, error) {
	var text []byte
	if op.sends != nil {
		var err error
		if text, err = json.Marshal(body); err != nil { // once: a repeat is the same byte for byte
			return 0, err
		}
	}
	for attempt := 0; ; attempt++ {
		retryAfter, err := c.once(ctx, op, id, text, wait, answer)
		again, asked := passing(err)
		if err == nil || !again || attempt+1 >= c.Tries || ctx.Err() != nil {
			return retryAfter, err
		}
		if err := pause(ctx, pauseBefore(attempt, asked)); err != nil {
			return 0, err
		}
	}
}

func (c *Client) once(ctx context.Context, op operation, id string, text []byte, wait time.Duration, answer any) (time.Duration, error) {
	limited, cancel := context.WithTimeout(ctx, wait+c.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(limited, op.method, c.address(op, id, wait), bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	if text != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.Token)
	}
	response, err := c.HTTP.Do(request)
	if err != nil {
		return 0, c.noAnswer(ctx, err)
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, c.noAnswer(ctx, err)
	}
	after, _ := strconv.Atoi(response.Header.Get("Retry-After"))
	retryAfter := time.Duration(after) * time.Second
	if response.StatusCode == 204 && op.empty {
		return retryAfter, nil
	}
	if response.StatusCode < 300 && json.Unmarshal(said, answer) == nil {
		return retryAfter, nil
	}
	return retryAfter, refusal(response.StatusCode, said, retryAfter)
}

func (c *Client) noAnswer(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &NoAnswer{c.URL, err}
}

func refusal(status int, said []byte, retryAfter time.Duration) error {
	var why problem
	if json.Unmarshal(said, &why) != nil || why.Code == "" {
		if len(said) > 200 {
			said = said[:200]
		}
		return &UnexpectedAnswer{status, string(said), retryAfter}
	}
	refused := &QueueError{why.Status, why.Code, why.Detail, "", why.Unconfirmed, retryAfter, why.Max}
	if why.Field != nil {
		refused.Field = *why.Field
	}
	return refused
}

// address is where an operation is. Proxies rewrite some ids in a path: those go into the query.
func (c *Client) address(op operation, id string, wait time.Duration) string {
	query := url.Values{}
	if op.query != "" && wait > 0 {
		query.Set(op.query, strconv.FormatFloat(wait.Seconds(), 'f', -1, 64))
	}
	escaped := url.PathEscape(id)
	if strings.ContainsAny(id, `/\%?#;`) || id == "." || id == ".." {
		query.Set("id", id)
		escaped = "-"
	}
	address := strings.TrimRight(c.URL, "/") + strings.Replace(op.path, "{id}", escaped, 1)
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	return address
}

// pauseBefore is what the server asked for, else doubles, half of it by chance; never above the maximum.
func pauseBefore(attempt int, asked time.Duration) time.Duration {
	if attempt > 10 {
		attempt = 10
	}
	if asked == 0 {
		asked = time.Duration(float64(pauseMin<<attempt) * (0.5 + mathrand.Float64()/2))
	}
	if asked > pauseMax {
		asked = pauseMax
	}
	return asked
}

func pause(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func seconds(number float64) time.Duration { return time.Duration(number * float64(time.Second)) }

func newID() string {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		panic(err)
	}
	return hex.EncodeToString(random)
}
