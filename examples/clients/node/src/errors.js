// What the client throws.

/** The server refused a request. `code` is for programs, `field` names the input at fault, `message` is a sentence for people. */
export class QueueError extends Error {
  constructor(problem, retryAfter = null) {
    super(problem.detail);
    this.name = "QueueError";
    this.code = problem.code;
    this.field = problem.field ?? null;
    this.status = problem.status;
    this.unconfirmed = problem.unconfirmed ?? false;
    this.retryAfter = retryAfter;
    this.problem = problem;
  }
}

/** No answer came: the server is away, or it took longer than the time-out. `cause` has the reason. */
export class NoAnswer extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = "NoAnswer";
  }
}

/** Something answered that is not a jobqueue server, a proxy for one. */
export class UnexpectedAnswer extends Error {
  constructor(message, status, retryAfter = null) {
    super(message);
    this.name = "UnexpectedAnswer";
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** The job that was waited for ended, and did not succeed. `job` is the whole job. */
export class JobFailed extends Error {
  constructor(job) {
    const said = job.error === null ? "" : `: ${job.error?.message ?? JSON.stringify(job.error)}`;
    super(`job '${job.id}' ended as ${job.outcome}${said}`);
    this.name = "JobFailed";
    this.job = job;
  }
}

/** The job that was waited for has not ended yet. `jobId` is its id. */
export class WaitTimeout extends Error {
  constructor(jobId, seconds) {
    super(`job '${jobId}' has not ended within ${seconds} s`);
    this.name = "WaitTimeout";
    this.jobId = jobId;
  }
}

/** Thrown by a handler: the job failed for good, and is not tried again. */
export class Discard extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = "Discard";
  }
}

/** The reason of a job's `signal`. `code` says why: `cancelled`, `lease_lost` or `stopping`. */
export class Stopped extends Error {
  constructor(code, message) {
    super(message);
    this.name = "Stopped";
    this.code = code;
  }
}
