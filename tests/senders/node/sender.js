// Sends what a scenario says (see ../scenario.py) with OpenTelemetry's SDK for Node, to where and
// how OpenTelemetry's environment variables say, and prints the ids and times that it chose.
import { readFileSync } from "node:fs";
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs";
import { AggregationType, MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";

const PACKAGES = { "http/protobuf": "proto", "http/json": "http", grpc: "grpc" };

const scenario = JSON.parse(readFileSync(process.argv[2], "utf8"));
const base = BigInt(scenario.base);
const { name: scope, version } = scenario.scope;

// Seconds and nanoseconds: one number would not hold them exactly.
const at = (offset) => {
  const time = base + BigInt(offset);
  return [Number(time / 1_000_000_000n), Number(time % 1_000_000_000n)];
};
const now = () => BigInt(Date.now()) * 1_000_000n;

// Returns what a value of JSON stands for; `{"$bytes": BASE64}` are bytes.
const value = (plain) => {
  if (Array.isArray(plain)) return plain.map(value);
  if (plain === null || typeof plain !== "object") return plain;
  if ("$bytes" in plain) return new Uint8Array(Buffer.from(plain.$bytes, "base64"));
  return Object.fromEntries(Object.entries(plain).map(([name, inner]) => [name, value(inner)]));
};

const exporter = async (signal, exported) => {
  const kind = PACKAGES[process.env.OTEL_EXPORTER_OTLP_PROTOCOL];
  const found = await import(`@opentelemetry/exporter-${signal}-otlp-${kind}`);
  return new (found[exported] ?? found.default[exported])();
};

// Returns the contexts of the spans, by name.
const sendSpans = (tracer) => {
  const contexts = { "": ROOT_CONTEXT };
  for (const span of scenario.spans) {
    const links = span.links.map((link) => ({
      context: trace.getSpanContext(contexts[link.span]),
      attributes: value(link.attributes),
    }));
    const options = { kind: SpanKind[span.kind], startTime: at(span.start), attributes: value(span.attributes), links };
    const begun = tracer.startSpan(span.name, options, contexts[span.parent]);
    for (const event of span.events) begun.addEvent(event.name, value(event.attributes), at(event.time));
    if (span.status.code) begun.setStatus({ code: SpanStatusCode[span.status.code], message: span.status.message });
    begun.end(at(span.end));
    contexts[span.name] = trace.setSpan(ROOT_CONTEXT, begun);
  }
  return contexts;
};

// Returns what records a value of one metric.
const instrument = (meter, { name, kind, unit, description, bounds }) => {
  const options = { unit, description };
  switch (kind) {
    case "int_counter":
    case "double_counter": {
      const made = meter.createCounter(name, options);
      return (...measured) => made.add(...measured);
    }
    case "int_up_down_counter": {
      const made = meter.createUpDownCounter(name, options);
      return (...measured) => made.add(...measured);
    }
    case "double_gauge": {
      const made = meter.createGauge(name, options);
      return (...measured) => made.record(...measured);
    }
    case "double_histogram": {
      const advice = bounds.length ? { explicitBucketBoundaries: bounds } : {};
      const made = meter.createHistogram(name, { ...options, advice });
      return (...measured) => made.record(...measured);
    }
    default:
      throw new Error(`no kind of metric: ${kind}`);
  }
};

const sendMetrics = async (contexts, provider) => {
  const meter = provider.getMeter(scope, version);
  const records = scenario.metrics.map((metric) => instrument(meter, metric));
  for (let round = 1; round <= scenario.rounds; round++) {
    scenario.metrics.forEach((metric, i) => {
      for (const measured of metric.measurements)
        records[i](measured.value, value(measured.attributes), contexts[measured.span]);
    });
    if (round < scenario.rounds) await provider.forceFlush(); // the last one goes out at the end
  }
};

const sendLogs = (contexts, logger) => {
  for (const entry of scenario.logs) {
    logger.emit({
      timestamp: at(entry.time),
      severityNumber: entry.severity,
      severityText: entry.text,
      eventName: entry.event || undefined,
      body: value(entry.body),
      attributes: value(entry.attributes),
      context: contexts[entry.span],
    });
  }
};

const resource = resourceFromAttributes({
  ...value(scenario.resource),
  "service.name": process.env.OTEL_SERVICE_NAME,
});
const tracers = new BasicTracerProvider({
  resource,
  spanProcessors: [new BatchSpanProcessor(await exporter("trace", "OTLPTraceExporter"))],
});
const meters = new MeterProvider({
  resource,
  readers: [new PeriodicExportingMetricReader({ exporter: await exporter("metrics", "OTLPMetricExporter") })],
  views: [
    {
      instrumentName: "*.size",
      aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM, options: { maxSize: 160 } },
    },
  ],
});
const loggers = new LoggerProvider({
  resource,
  processors: [new BatchLogRecordProcessor({ exporter: await exporter("logs", "OTLPLogExporter") })],
});

const begin = now();
const contexts = sendSpans(tracers.getTracer(scope, version));
await sendMetrics(contexts, meters);
sendLogs(contexts, loggers.getLogger(scope, version));
await Promise.all([tracers.shutdown(), meters.shutdown(), loggers.shutdown()]);

const spans = {};
for (const { name } of scenario.spans) {
  const { traceId, spanId } = trace.getSpanContext(contexts[name]);
  spans[name] = [traceId, spanId];
}
const metrics = `[${begin}, ${now() + 1_000_000n}]`;
console.log(`{"spans": ${JSON.stringify(spans)}, "metrics": ${metrics}}`);
