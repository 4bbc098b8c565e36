// Fields have the names and the meaning that they have on the wire: docs/protocol.md has their units, defaults and bounds.

export type Status = "scheduled" | "queued" | "in_progress" | "concluded";
export type Outcome = "succeeded" | "failed" | "cancelled" | "expired";

export interface Backoff {
  /** Seconds: the longest wait before the second attempt. */
  base?: number;
  factor?: number;
  /** Seconds: what no wait exceeds. */
  cap?: number;
}

export interface EnqueueBody {
  payload: unknown;
  /** Choose it, and the same job may be enqueued again safely: a repeat is answered the job that exists. */
  id?: string;
  queue?: string;
  type?: string;
  description?: string;
  /** 0 to 9; 0 is the most urgent. */
  priority?: number;
  /** Seconds. */
  delay?: number;
  /** RFC 3339 with an offset, as `date.toISOString()` makes it. */
  run_at?: string;
  /** Seconds. */
  expires_in?: number;
  max_attempts?: number;
  backoff?: Backoff;
  lease_seconds?: number;
  traceparent?: string;
  key?: string;
  tags?: string[];
  after?: string[];
  after_failure?: "cancel" | "run" | "hold";
  group?: string;
}

export interface DequeueBody {
  /** One, or several in order of preference. */
  queue?: string | string[];
  /** Seconds to be held when there is no job. */
  wait?: number;
  lease_seconds?: number;
  worker?: string;
  attempt_id?: string;
  host?: string;
  concurrency?: number;
  version?: string;
}

export interface ExtendBody {
  lease: string;
  lease_seconds?: number;
  /** 0 to 1. */
  progress?: number;
  message?: string;
}

export interface ConcludeBody {
  lease: string;
  outcome: "succeeded" | "failed";
  result?: unknown;
  error?: unknown;
  /** `false` makes a failure final. */
  retry?: boolean;
  /** Seconds until the next attempt. */
  retry_delay?: number;
  /** `true`: a success is taken too when the lease has run out and nobody was handed the job since. */
  late?: boolean;
}

export interface ReleaseBody {
  lease: string;
  /** Seconds. */
  delay?: number;
}

/** What an enqueue answers. */
export interface Enqueued {
  id: string;
  queue: string;
  type: string | null;
  priority: number;
  status: Status;
  created_at: string;
  run_at: string | null;
  expires_at: string | null;
  /** `false`: the job existed already. */
  created: boolean;
}

export interface Lease {
  token: string;
  expires_at: string;
}

/** A job as a worker is handed it. */
export interface Dequeued<Payload = any> {
  id: string;
  number: number;
  queue: string;
  type: string | null;
  description: string | null;
  priority: number;
  /** Which attempt this is, from 1. */
  attempts: number;
  created_at: string;
  lease: Lease;
  /** Of the last attempt that failed. */
  error: any;
  payload: Payload;
  traceparent?: string;
  key?: string;
  tags?: string[];
  group?: string;
}

export interface Extended {
  id: string;
  expires_at: string;
  cancel_requested: boolean;
}

export interface Concluded {
  id: string;
  status: Status;
  outcome: Outcome | null;
  attempts: number;
  run_at: string | null;
}

/** A job as anyone may see it. */
export interface Job<Result = any, Payload = any> {
  id: string;
  number: number;
  queue: string;
  type: string | null;
  description: string | null;
  priority: number;
  status: Status;
  outcome: Outcome | null;
  attempts: number;
  max_attempts: number | null;
  created_at: string;
  run_at: string | null;
  expires_at: string | null;
  started_at: string | null;
  concluded_at: string | null;
  lease_expires_at: string | null;
  worker: string | null;
  progress: number | null;
  message: string | null;
  cancel_requested: boolean;
  error: any;
  key: string | null;
  tags: string[];
  /** Not in what `release` and `cancel` answer, nor is `payload`. */
  result?: Result;
  payload?: Payload;
}

/** The body of an error (RFC 9457). */
export interface Problem {
  type: string;
  title: string;
  status: number;
  code: string;
  detail: string;
  field?: string | null;
  unconfirmed?: boolean;
  max?: number | null;
  job_id?: string | null;
}

export interface ClientOptions {
  /** Default: `JOBQUEUE_URL`, else `http://127.0.0.1:8080`. */
  url?: string;
  /** Default: `JOBQUEUE_TOKEN`, else none. */
  token?: string;
  /** Seconds for each try, on top of the time that the server was asked to wait. Default: 10. */
  timeout?: number;
  /** How often a request is sent at most when no answer comes or the server is busy. Default: 5. */
  tries?: number;
  /** In place of Node's own. */
  fetch?: typeof globalThis.fetch;
}

type Wait = { /** Seconds. */ wait?: number; signal?: AbortSignal };

/** Methods reject with `QueueError`, `NoAnswer` or `UnexpectedAnswer`. */
export class Client {
  constructor(options?: string | ClientOptions);
  /** Submit a job. Without an `id` the client makes one, so that it may try again safely. */
  enqueue(payload: unknown, options?: Omit<EnqueueBody, "payload">): Promise<Enqueued>;
  /** Take a job, or `null` when none came in time. `Worker` does this for you. */
  dequeue<Payload = any>(options?: DequeueBody): Promise<Dequeued<Payload> | null>;
  extend(id: string, lease: string, options?: Omit<ExtendBody, "lease">): Promise<Extended>;
  conclude(id: string, lease: string, ending: Omit<ConcludeBody, "lease">): Promise<Concluded>;
  release(id: string, lease: string, options?: Omit<ReleaseBody, "lease">): Promise<Job>;
  /** The job as it is; with a `wait`, once it is concluded or the wait is over. Default: 0. */
  job<Result = any, Payload = any>(id: string, options?: Wait): Promise<Job<Result, Payload>>;
  /** The result of a job, once it has succeeded. Rejects with `JobFailed` or `WaitTimeout` too. Default: 60 s. */
  result<Result = any>(id: string, options?: Wait): Promise<Result>;
  cancel(id: string): Promise<Job>;
}

/** What a handler is given. */
export interface RunningJob<Payload = any> extends Dequeued<Payload> {
  /** Aborted when the job was cancelled, its lease was lost, or the worker stops; its reason is a `Stopped`. */
  readonly signal: AbortSignal;
  /** Say how far it is, 0 to 1, and at what. The next heartbeat tells the server. */
  report(progress?: number, message?: string): void;
}

export interface WorkerOptions {
  /** One, or several in order of preference. Default: `default`. */
  queue?: string | string[];
  /** How many jobs run at once. Default: 1. */
  concurrency?: number;
  /** Seconds after which another worker gets the job when this process dies; at least 1. Default: 60. */
  lease_seconds?: number;
  /** Default: host, process and some random digits. */
  name?: string;
  /** Of your program; shown in the list of workers. */
  version?: string;
  /** Takes one line for each failed attempt and each outage. Default: `console.error`. */
  log?: (line: string) => void;
}

type Grace = { /** Default: 30. */ grace_seconds?: number };

export class Worker<Payload = any> {
  constructor(
    client: Client | string | ClientOptions | undefined,
    options: WorkerOptions,
    handler: (job: RunningJob<Payload>) => unknown,
  );
  readonly name: string;
  /** How many jobs it works on now. */
  readonly running: number;
  /** Work until SIGTERM or SIGINT, then `stop`. Rejects when the server refuses the worker, as with a wrong token. */
  run(options?: Grace): Promise<void>;
  /** Begin to take jobs. Signals are yours to handle. */
  start(): void;
  /** Take no more, give back what was not begun, let running jobs finish. What still runs after the grace is interrupted and given back. */
  stop(options?: Grace): Promise<void>;
  /** Resolves when the worker takes no more; rejects when the server refuses it. */
  ended(): Promise<void>;
}

/** The server refused a request. */
export class QueueError extends Error {
  /** For programs: docs/protocol.md lists all. */
  readonly code: string;
  /** The input at fault, if one is. */
  readonly field: string | null;
  readonly status: number;
  /** `true`: the change may have been made all the same. */
  readonly unconfirmed: boolean;
  /** Seconds. */
  readonly retryAfter: number | null;
  readonly problem: Problem;
}

/** No answer came. `cause` has the reason. */
export class NoAnswer extends Error {}

/** Something answered that is not a jobqueue server. */
export class UnexpectedAnswer extends Error {
  readonly status: number;
  readonly retryAfter: number | null;
}

/** The job that was waited for ended, and did not succeed. */
export class JobFailed extends Error {
  readonly job: Job;
}

/** The job that was waited for has not ended yet. */
export class WaitTimeout extends Error {
  readonly jobId: string;
}

/** Throw it in a handler: the job failed for good, and is not tried again. */
export class Discard extends Error {}

/** The reason of a job's `signal`. */
export class Stopped extends Error {
  readonly code: "cancelled" | "lease_lost" | "stopping";
}
