export { Client } from "./client.js";
export { Discard, JobFailed, NoAnswer, QueueError, Stopped, UnexpectedAnswer, WaitTimeout } from "./errors.js";
export { Worker } from "./worker.js";
