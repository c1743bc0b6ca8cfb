// The interface's description, made readable: of openapi.json nothing but its text.

import { byId, make } from "./dom.js";

const EXAMPLES = {
  "/v1/search": { query: "a dog on a mat", k: 5 },
  "/v1/rerank": { query: "a dog on a mat", documents: [{ id: 1 }, { id: 2 }], top_n: 1 },
  "/v1/embeddings": { input: ["a dog on a mat", { id: 1 }] },
  "/v1/explain": { id: 1, query: "a dog on a mat" },
};

let schemas = {};

function kind(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(kind).filter((one) => one !== "null").join(" or ");
  if (schema.type === "array") return `list of ${kind(schema.items ?? {})}`;
  return schema.enum ? schema.enum.join(" or ") : (schema.type ?? "anything");
}

function table(fields) {
  const rows = fields.map(([name, schema, required]) => {
    const said = [schema.description ?? schema.anyOf?.find((one) => one.description)?.description];
    if (required) said.push("required");
    if (schema.default !== undefined && schema.default !== null) said.push(`default ${schema.default}`);
    return make("tr", {}, make("th", {}, make("code", {}, name)), make("td", {}, kind(schema)), make("td", {}, said.filter(Boolean).join("; ")));
  });
  return rows.length ? make("table", {}, ...rows) : null;
}

const fieldsOf = (schema) => Object.entries(schema.properties ?? {}).map(([name, own]) => [name, own, schema.required?.includes(name)]);

function article(path, method, route) {
  const body = route.requestBody?.content?.["application/json"]?.schema?.$ref;
  const fields = body ? fieldsOf(schemas[body.split("/").pop()]) : (route.parameters ?? []).map((one) => [one.name, one.schema, one.required]);
  const example = EXAMPLES[path];
  const curl = example && `curl ${location.origin}${path} -H 'Content-Type: application/json' \\\n  -d '${JSON.stringify(example)}'`;
  return make(
    "article",
    {},
    make("h2", {}, make("b", { class: method }, method.toUpperCase()), path),
    make("p", {}, route.description ?? ""),
    table(fields),
    curl ? make("pre", {}, curl) : null,
  );
}

const said = await (await fetch("/openapi.json")).json();
schemas = said.components?.schemas ?? {};
byId("routes").replaceChildren(
  ...Object.entries(said.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, route]) => article(path, method, route))),
  make("h2", {}, "Document"),
  table(fieldsOf(schemas.Document ?? {})),
);
