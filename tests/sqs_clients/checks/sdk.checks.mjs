// @aws-sdk/client-sqs at work. Runs twice: on the current one, which speaks JSON, and on the last that spoke Query.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as sdk from "@aws-sdk/client-sqs";

const sqs = new sdk.SQSClient({});
const set = process.env.CHECKS_SET ?? "set";
let queues = 0;

async function queue(attributes = {}, suffix = "") {
  const QueueName = `${set}-sdk-${process.pid}-${++queues}${suffix}`;
  return (await sqs.send(new sdk.CreateQueueCommand({ QueueName, Attributes: attributes }))).QueueUrl;
}

async function receive(QueueUrl, more = {}) {
  const answer = await sqs.send(new sdk.ReceiveMessageCommand({ QueueUrl, WaitTimeSeconds: 20, ...more }));
  return answer.Messages ?? [];
}

async function counts(QueueUrl) {
  const AttributeNames = ["", "NotVisible", "Delayed"].map((kind) => `ApproximateNumberOfMessages${kind}`);
  const { Attributes } = await sqs.send(new sdk.GetQueueAttributesCommand({ QueueUrl, AttributeNames }));
  return AttributeNames.map((name) => Number(Attributes[name]));
}

test("a message with attributes comes back as it was, is hidden, put back and deleted", async () => {
  const QueueUrl = await queue();
  const MessageAttributes = {
    kind: { DataType: "String", StringValue: "größer 漢字 😀" },
    n: { DataType: "Number", StringValue: "12.5" },
    blob: { DataType: "Binary.png", BinaryValue: new Uint8Array([0, 1, 254, 255]) },
  };
  for (const MessageBody of ['{"to": "a@example.org",  "n": 1.50}', "<a>&amp;\r\n</a>", "größer 漢字 😀"]) {
    const sent = await sqs.send(new sdk.SendMessageCommand({ QueueUrl, MessageBody, MessageAttributes }));
    const asked = { MessageAttributeNames: ["All"], AttributeNames: ["All"] };
    const [first] = await receive(QueueUrl, asked);
    assert.equal(first.MessageId, sent.MessageId);
    assert.equal(first.Body, MessageBody);
    assert.equal(first.MessageAttributes.kind.StringValue, MessageAttributes.kind.StringValue);
    assert.deepEqual([...first.MessageAttributes.blob.BinaryValue], [0, 1, 254, 255]);
    assert.equal(first.MessageAttributes.blob.DataType, "Binary.png");
    assert.equal(first.MD5OfMessageAttributes, sent.MD5OfMessageAttributes);
    assert.deepEqual(await receive(QueueUrl, { WaitTimeSeconds: 0 }), []);
    const { ReceiptHandle } = first;
    await sqs.send(new sdk.ChangeMessageVisibilityCommand({ QueueUrl, ReceiptHandle, VisibilityTimeout: 0 }));
    const [second] = await receive(QueueUrl, asked);
    assert.equal(second.Attributes.ApproximateReceiveCount, "2");
    await sqs.send(new sdk.DeleteMessageCommand({ QueueUrl, ReceiptHandle: second.ReceiptHandle }));
    assert.deepEqual(await counts(QueueUrl), [0, 0, 0]);
  }
});

test("a receive that is held is answered by the message, and one that is aborted takes none", async () => {
  const QueueUrl = await queue();
  const abort = new AbortController();
  const cancelled = sqs.send(new sdk.ReceiveMessageCommand({ QueueUrl, WaitTimeSeconds: 20 }), { abortSignal: abort.signal });
  await counts(QueueUrl);
  abort.abort();
  await assert.rejects(cancelled, { name: "AbortError" });
  const held = receive(QueueUrl);
  await sqs.send(new sdk.SendMessageCommand({ QueueUrl, MessageBody: "x" }));
  assert.deepEqual((await held).map((message) => message.Body), ["x"]);
});

test("a batch, in which one entry fails", async () => {
  const QueueUrl = await queue();
  const Entries = ["a", "b\u0001", "c"].map((MessageBody, n) => ({ Id: `e${n}`, MessageBody }));
  const answer = await sqs.send(new sdk.SendMessageBatchCommand({ QueueUrl, Entries }));
  assert.deepEqual(answer.Successful.map((one) => one.Id), ["e0", "e2"]);
  assert.deepEqual(answer.Failed.map((one) => [one.Id, one.Code, one.SenderFault]), [["e1", "InvalidMessageContents", true]]);
  const taken = [];
  while (taken.length < 2) taken.push(...(await receive(QueueUrl, { MaxNumberOfMessages: 10 })));
  const handles = taken.map(({ ReceiptHandle }, n) => ({ Id: `${n}`, ReceiptHandle }));
  const deleted = await sqs.send(new sdk.DeleteMessageBatchCommand({ QueueUrl, Entries: handles }));
  assert.equal(deleted.Successful.length, 2);
  assert.deepEqual(deleted.Failed ?? [], []);
});

test("a FIFO queue keeps the order of a group and drops duplicates", async () => {
  const QueueUrl = await queue({ FifoQueue: "true", ContentBasedDeduplication: "true" }, ".fifo");
  const sent = [];
  for (const MessageBody of ["1", "2", "2", "3"]) {
    sent.push(await sqs.send(new sdk.SendMessageCommand({ QueueUrl, MessageBody, MessageGroupId: "g" })));
  }
  assert.equal(sent[1].MessageId, sent[2].MessageId);
  assert.equal(sent[1].SequenceNumber, sent[2].SequenceNumber);
  const taken = await receive(QueueUrl, { MaxNumberOfMessages: 10 });
  assert.deepEqual(taken.map((message) => message.Body), ["1", "2", "3"]);
});

test("dead letters and their way back", async () => {
  const dead = await queue();
  const arn = (await sqs.send(new sdk.GetQueueAttributesCommand({ QueueUrl: dead, AttributeNames: ["QueueArn"] }))).Attributes.QueueArn;
  const QueueUrl = await queue({ RedrivePolicy: JSON.stringify({ deadLetterTargetArn: arn, maxReceiveCount: 1 }) });
  await sqs.send(new sdk.SendMessageCommand({ QueueUrl, MessageBody: "poison" }));
  await receive(QueueUrl, { VisibilityTimeout: 0 });
  await receive(QueueUrl, { WaitTimeSeconds: 0 });
  assert.deepEqual((await receive(dead, { VisibilityTimeout: 0 })).map((message) => message.Body), ["poison"]);
  const { queueUrls } = await sqs.send(new sdk.ListDeadLetterSourceQueuesCommand({ QueueUrl: dead }));
  assert.deepEqual(queueUrls, [QueueUrl]);
  const { TaskHandle } = await sqs.send(new sdk.StartMessageMoveTaskCommand({ SourceArn: arn }));
  assert.ok(TaskHandle);
  assert.deepEqual((await receive(QueueUrl)).map((message) => message.Body), ["poison"]);
});

// The last client that spoke Query has a class for some errors of some actions only; the rest carry AWS's code.
const query = process.env.CHECKS_PROTOCOL === "query";

test("errors are the client's own classes", async () => {
  const QueueUrl = await queue();
  const missing = { QueueUrl: `${QueueUrl}-missing` };
  const twice = [{ Id: "a", MessageBody: "1" }, { Id: "a", MessageBody: "2" }];
  const gone = "AWS.SimpleQueueService.NonExistentQueue";
  for (const [command, type, code] of [
    [new sdk.GetQueueUrlCommand({ QueueName: "missing" }), sdk.QueueDoesNotExist, gone],
    [new sdk.ReceiveMessageCommand(missing), sdk.QueueDoesNotExist, gone],
    [new sdk.DeleteMessageCommand({ QueueUrl, ReceiptHandle: "garbage" }), sdk.ReceiptHandleIsInvalid, "ReceiptHandleIsInvalid"],
    [
      new sdk.SendMessageBatchCommand({ QueueUrl, Entries: twice }),
      sdk.BatchEntryIdsNotDistinct,
      "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
    ],
    [new sdk.SendMessageBatchCommand({ QueueUrl, Entries: [] }), sdk.EmptyBatchRequest, "AWS.SimpleQueueService.EmptyBatchRequest"],
    [new sdk.SendMessageCommand({ QueueUrl, MessageBody: "\u0001" }), sdk.InvalidMessageContents, "InvalidMessageContents"],
    [new sdk.ReceiveMessageCommand({ QueueUrl, WaitTimeSeconds: 21 }), sdk.SQSServiceException, "InvalidParameterValue"],
  ]) {
    await assert.rejects(sqs.send(command), (error) => {
      assert.ok(error instanceof sdk.SQSServiceException, `${error}`);
      assert.ok(error instanceof type || (query && error.Code === code), `${error.name} ${error.Code}, expected ${code}`);
      return true;
    });
  }
});

const byUrl = async () => {
  const QueueUrl = await queue();
  const { AWS_ENDPOINT_URL_SQS } = process.env;
  delete process.env.AWS_ENDPOINT_URL_SQS;
  try {
    const plain = new sdk.SQSClient({ useQueueUrlAsEndpoint: true });
    await plain.send(new sdk.SendMessageCommand({ QueueUrl, MessageBody: "x" }));
  } finally {
    process.env.AWS_ENDPOINT_URL_SQS = AWS_ENDPOINT_URL_SQS;
  }
  assert.deepEqual((await receive(QueueUrl)).map((message) => message.Body), ["x"]);
};
// The last client that spoke Query did not.
if (!query) test("a client without an endpoint goes by the queue's URL", byUrl);
