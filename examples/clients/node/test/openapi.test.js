// What the client sends and reads is what the server's OpenAPI document says.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { OPERATIONS } from "../src/operations.js";
import { URL_OF_SERVER } from "./helpers.js";

const api = await (await fetch(`${URL_OF_SERVER}/openapi.json`)).json();
const declared = await readFile(new URL("../src/index.d.ts", import.meta.url), "utf8");
const read = async (name) => readFile(new URL(`../src/${name}.js`, import.meta.url), "utf8");

/** The fields of an interface of index.d.ts, by name: `{ optional, type }`. */
function interfaceOf(name) {
  const found = declared.match(new RegExp(`^export interface ${name}(?:<[^{]*>)? \\{\\n([^]*?)^\\}`, "m"));
  assert.ok(found, `index.d.ts has no interface ${name}`);
  const fields = found[1].replace(/\/\*\*[^]*?\*\//g, "").matchAll(/^ {2}(\w+)(\??): (.+);$/gm);
  return Object.fromEntries([...fields].map(([, field, optional, type]) => [field, { optional: optional === "?", type }]));
}

/** A type of TypeScript as the set of what it may be; a literal in its quotes. */
function kindsOfType(type) {
  const parts = type.split(" | ").flatMap((part) => {
    const alias = /^\w+$/.test(part) && declared.match(new RegExp(`^export type ${part} = (.+);$`, "m"));
    return alias ? alias[1].split(" | ") : [part];
  });
  return new Set(parts.map((part) => (["any", "unknown", "Payload", "Result"].includes(part) ? "any" : part)));
}

const resolved = (schema) => (schema.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema);

/** A schema as the set of what it may be, in the words of TypeScript; an object is that of its fields. */
function kindsOfSchema(schema) {
  const { anyOf, enum: values, type, items, properties } = resolved(schema);
  if (anyOf) return new Set(anyOf.flatMap((each) => [...kindsOfSchema(each)]));
  if (values) return new Set(values.map((value) => JSON.stringify(value)));
  if (type === "array") return new Set([...kindsOfSchema(items)].map((kind) => `${kind}[]`));
  if (properties) return new Set([resolved(schema).title]);
  return new Set([type === undefined ? "any" : type === "integer" ? "number" : type]);
}

/** Names of interfaces that are objects within others, and of their schemas. */
const OBJECTS = { Backoff: "BackoffBody", Lease: "LeaseView" };

/** Why an interface does not fit a schema, a line a fault. sent: the client writes it; else it reads it. */
function misfits(name, schema, sent) {
  const fields = interfaceOf(name);
  const { properties, required = [] } = resolved(schema);
  const faults = [];
  for (const [field, { optional, type }] of Object.entries(fields)) {
    if (!(field in properties)) {
      faults.push(`${name}.${field} is not in the document`);
      continue;
    }
    const ours = new Set([...kindsOfType(type)].map((kind) => OBJECTS[kind] ?? kind));
    const theirs = kindsOfSchema(properties[field]);
    const [narrow, wide] = sent ? [ours, theirs] : [theirs, ours];
    const fits = (kind) => wide.has("any") || wide.has(kind) || (kind.startsWith('"') && wide.has("string"));
    if (![...narrow].every(fits)) faults.push(`${name}.${field} is ${[...ours]}, and ${[...theirs]} in the document`);
    if (!sent && !optional && !required.includes(field)) faults.push(`${name}.${field} may be missing`);
    if (OBJECTS[type]) faults.push(...misfits(type, api.components.schemas[OBJECTS[type]], sent));
  }
  if (sent) faults.push(...required.filter((field) => !(field in fields) || fields[field].optional).map((field) => `${name} leaves ${field} out`));
  return faults;
}

const JSON_OF = (content) => content["application/json"].schema;

for (const [name, { method, path, sends, query, answers, empty }] of Object.entries(OPERATIONS)) {
  test(`${name} is an operation of the server, with these parameters, fields and types`, () => {
    const operation = api.paths[path]?.[method.toLowerCase()];
    assert.ok(operation, `${method} ${path} is not in the document`);
    for (const parameter of query) {
      const found = operation.parameters.find((each) => each.in === "query" && each.name === parameter);
      assert.equal(found?.schema.type, "number", `${parameter} of ${path}`);
    }
    assert.equal(path.includes("{id}"), operation.parameters.some((each) => each.in === "path" && each.name === "id"));
    assert.equal(empty ?? false, "204" in operation.responses);
    if (sends !== null) assert.deepEqual(misfits(sends, JSON_OF(operation.requestBody.content), true), []);
    assert.deepEqual(misfits(answers, JSON_OF(operation.responses["200"].content), false), []);
  });
}

test("an error has these fields and types, and every code that the client names is one of the API's", async () => {
  assert.deepEqual(misfits("Problem", { $ref: "#/components/schemas/Problem" }, false), []);
  const codes = new Set(api.components.schemas.Problem.properties.code.enum);
  const sets = [...((await read("client")) + (await read("worker"))).matchAll(/^const (?:PASSING|OVER) = new Set\(\[(.*)\]\)/gm)];
  assert.equal(sets.length, 2);
  for (const [, list] of sets) for (const code of JSON.parse(`[${list}]`)) assert.ok(codes.has(code), code);
});

test("no request is made but those of the table", async () => {
  const called = [...((await read("client")) + (await read("worker"))).matchAll(/\bcall\("(\w+)"/g)].map(([, name]) => name);
  assert.deepEqual([...new Set(called)].sort(), Object.keys(OPERATIONS).sort());
});

test("a field of another type, one that is missing and one that nobody knows are found", () => {
  const lease = { type: "object", properties: { token: { type: "integer" } }, required: ["token"] };
  assert.deepEqual(misfits("Lease", lease, false), ["Lease.token is string, and number in the document", "Lease.expires_at is not in the document"]);
  const open = { type: "object", properties: { token: { type: "string" }, expires_at: { type: "string" } }, required: ["token"] };
  assert.deepEqual(misfits("Lease", open, false), ["Lease.expires_at may be missing"]);
  const more = { type: "object", properties: { lease: { type: "string" }, delay: { type: "number" }, why: {} }, required: ["lease", "why"] };
  assert.deepEqual(misfits("ReleaseBody", more, true), ["ReleaseBody leaves why out"]);
});
