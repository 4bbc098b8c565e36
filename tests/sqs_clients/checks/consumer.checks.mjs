// sqs-producer and sqs-consumer at work.
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import * as sdk from "@aws-sdk/client-sqs";
import { Consumer } from "sqs-consumer";
import { Producer } from "sqs-producer";

const sqs = new sdk.SQSClient({});
let queues = 0;

async function queue(attributes = {}) {
  const QueueName = `${process.env.CHECKS_SET ?? "set"}-consumer-${process.pid}-${++queues}`;
  return (await sqs.send(new sdk.CreateQueueCommand({ QueueName, Attributes: attributes }))).QueueUrl;
}

async function counts(QueueUrl) {
  const AttributeNames = ["", "NotVisible", "Delayed"].map((kind) => `ApproximateNumberOfMessages${kind}`);
  const { Attributes } = await sqs.send(new sdk.GetQueueAttributesCommand({ QueueUrl, AttributeNames }));
  return AttributeNames.map((name) => Number(Attributes[name]));
}

// Runs a consumer until `enough` says so; what it reports as an error ends it.
async function consume(options, enough) {
  const consumer = Consumer.create({ sqs, ...options });
  const failures = [];
  consumer.on("error", (error) => failures.push(error));
  const end = new Promise((resolve) => {
    for (const event of ["message_processed", "processing_error", "timeout_error", "error", "response_processed"]) {
      consumer.on(event, () => (enough() || failures.length) && resolve());
    }
  });
  consumer.start();
  await end;
  const stopped = once(consumer, "stopped");
  consumer.stop({ abort: true });
  await stopped;
  assert.deepEqual(failures, []);
}

test("a producer's messages are handled one by one and deleted", async () => {
  const queueUrl = await queue();
  const producer = Producer.create({ queueUrl, sqs });
  const sent = await producer.send([...Array(25).keys()].map((n) => ({
    id: `id${n}`,
    body: JSON.stringify({ n }),
    messageAttributes: { kind: { DataType: "String", StringValue: "count" } },
  })));
  assert.equal(sent.length, 25);
  assert.equal(await producer.queueSize(), 25);
  const got = [];
  const handleMessage = async (message) => {
    assert.equal(message.MessageAttributes.kind.StringValue, "count");
    got.push(JSON.parse(message.Body).n);
    return message;
  };
  let processed = 0;
  await consume({ queueUrl, messageAttributeNames: ["All"], batchSize: 10, handleMessage }, () => (processed = got.length) >= 25);
  assert.deepEqual(got.sort((a, b) => a - b), [...Array(25).keys()]);
  assert.equal(processed, 25);
});

test("whole batches are handled and deleted at once", async () => {
  const queueUrl = await queue();
  await Producer.create({ queueUrl, sqs }).send(["a", "b", "c"]);
  const got = [];
  const handleMessageBatch = async (messages) => {
    got.push(...messages.map((message) => message.Body));
    return messages;
  };
  await consume({ queueUrl, batchSize: 10, handleMessageBatch }, () => got.length >= 3);
  assert.deepEqual(got.sort(), ["a", "b", "c"]);
});

test("what a handler fails on comes again at once, and then is a dead letter", async () => {
  const dead = await queue();
  const arn = (await sqs.send(new sdk.GetQueueAttributesCommand({ QueueUrl: dead, AttributeNames: ["QueueArn"] }))).Attributes.QueueArn;
  const queueUrl = await queue({ RedrivePolicy: JSON.stringify({ deadLetterTargetArn: arn, maxReceiveCount: "2" }) });
  await Producer.create({ queueUrl, sqs }).send("poison");
  const counted = [];
  const handleMessage = async (message) => {
    counted.push(message.Attributes.ApproximateReceiveCount);
    throw new Error("cannot");
  };
  const messageSystemAttributeNames = ["ApproximateReceiveCount"];
  const options = { queueUrl, terminateVisibilityTimeout: true, messageSystemAttributeNames, handleMessage, waitTimeSeconds: 1 };
  let after = 0;
  await consume(options, () => counted.length >= 2 && ++after > 1);
  assert.deepEqual(counted, ["1", "2"]);
  const { Messages } = await sqs.send(new sdk.ReceiveMessageCommand({ QueueUrl: dead, WaitTimeSeconds: 20 }));
  assert.deepEqual(Messages.map((message) => message.Body), ["poison"]);
});

test("a heartbeat keeps a message hidden for longer than its time", async () => {
  const queueUrl = await queue();
  await Producer.create({ queueUrl, sqs }).send("slow");
  let times = 0;
  const handleMessage = async (message) => {
    times += 1;
    // Nobody else gets it for longer than its time: this receive waits that long for nothing. It ends between two beats, since one that
    // goes out beside the delete is an error, here and on AWS.
    const other = await sqs.send(new sdk.ReceiveMessageCommand({ QueueUrl: queueUrl, WaitTimeSeconds: 9 }));
    assert.deepEqual(other.Messages ?? [], []);
    return message;
  };
  await consume({ queueUrl, visibilityTimeout: 6, heartbeatInterval: 2, handleMessage }, () => times >= 1);
  assert.equal(times, 1);
  assert.deepEqual(await counts(queueUrl), [0, 0, 0]);
});
