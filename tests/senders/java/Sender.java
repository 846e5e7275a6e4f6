import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.common.AttributesBuilder;
import io.opentelemetry.api.common.KeyValue;
import io.opentelemetry.api.common.Value;
import io.opentelemetry.api.logs.Logger;
import io.opentelemetry.api.logs.Severity;
import io.opentelemetry.api.metrics.Meter;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Context;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;
import io.opentelemetry.sdk.metrics.Aggregation;
import io.opentelemetry.sdk.metrics.InstrumentSelector;
import io.opentelemetry.sdk.metrics.View;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/**
 * Sends what a scenario says (see ../scenario.py) with OpenTelemetry's SDK for Java, to where and
 * how OpenTelemetry's environment variables say, and prints the ids and times that it chose.
 */
public final class Sender {
  private interface Measure {
    void record(JsonPrimitive value, Attributes attributes, Context context);
  }

  private final JsonObject scenario;
  private final Map<String, Context> contexts = new HashMap<>(Map.of("", Context.root()));

  private Sender(JsonObject scenario) {
    this.scenario = scenario;
  }

  public static void main(String[] arguments) throws Exception {
    String text = Files.readString(Path.of(arguments[0]));
    new Sender(JsonParser.parseString(text).getAsJsonObject()).send();
  }

  private void send() {
    View exponential =
        View.builder().setAggregation(Aggregation.base2ExponentialBucketHistogram()).build();
    InstrumentSelector sizes = InstrumentSelector.builder().setName("*.size").build();
    OpenTelemetrySdk sdk =
        AutoConfiguredOpenTelemetrySdk.builder()
            .addResourceCustomizer(
                (found, config) ->
                    found.toBuilder().putAll(attributes(scenario.get("resource"))).build())
            .addMeterProviderCustomizer(
                (builder, config) -> builder.registerView(sizes, exponential))
            .disableShutdownHook()
            .build()
            .getOpenTelemetrySdk();
    JsonObject scope = scenario.getAsJsonObject("scope");
    String name = string(scope, "name");
    String version = string(scope, "version");

    long begin = now();
    sendSpans(sdk.tracerBuilder(name).setInstrumentationVersion(version).build());
    sendMetrics(sdk, sdk.getMeterProvider().meterBuilder(name).setInstrumentationVersion(version).build());
    sendLogs(
        sdk.getLogsBridge().loggerBuilder(name).setInstrumentationVersion(version).build());
    sdk.shutdown().join(20, TimeUnit.SECONDS);

    List<String> ids = new ArrayList<>();
    for (JsonElement span : scenario.getAsJsonArray("spans")) {
      String named = string(span.getAsJsonObject(), "name");
      var found = Span.fromContext(contexts.get(named)).getSpanContext();
      ids.add("%s: [\"%s\", \"%s\"]".formatted(
          new JsonPrimitive(named), found.getTraceId(), found.getSpanId()));
    }
    System.out.printf(
        "{\"spans\": {%s}, \"metrics\": [%d, %d]}%n", String.join(", ", ids), begin, now());
  }

  private void sendSpans(Tracer tracer) {
    for (JsonElement element : scenario.getAsJsonArray("spans")) {
      JsonObject span = element.getAsJsonObject();
      var builder =
          tracer
              .spanBuilder(string(span, "name"))
              .setParent(contexts.get(string(span, "parent")))
              .setSpanKind(SpanKind.valueOf(string(span, "kind")))
              .setStartTimestamp(at(span.get("start")))
              .setAllAttributes(attributes(span.get("attributes")));
      for (JsonElement link : span.getAsJsonArray("links")) {
        Context linked = contexts.get(string(link.getAsJsonObject(), "span"));
        builder.addLink(
            Span.fromContext(linked).getSpanContext(),
            attributes(link.getAsJsonObject().get("attributes")));
      }
      Span begun = builder.startSpan();
      for (JsonElement one : span.getAsJsonArray("events")) {
        JsonObject event = one.getAsJsonObject();
        begun.addEvent(
            string(event, "name"), attributes(event.get("attributes")), at(event.get("time")));
      }
      JsonObject status = span.getAsJsonObject("status");
      if (!string(status, "code").isEmpty()) {
        begun.setStatus(StatusCode.valueOf(string(status, "code")), string(status, "message"));
      }
      begun.end(at(span.get("end")));
      contexts.put(string(span, "name"), Context.root().with(begun));
    }
  }

  private void sendMetrics(OpenTelemetrySdk sdk, Meter meter) {
    Map<String, Measure> measures = new HashMap<>();
    for (JsonElement metric : scenario.getAsJsonArray("metrics")) {
      measures.put(string(metric.getAsJsonObject(), "name"), measure(meter, metric.getAsJsonObject()));
    }
    int rounds = scenario.get("rounds").getAsInt();
    for (int round = 1; round <= rounds; round++) {
      for (JsonElement metric : scenario.getAsJsonArray("metrics")) {
        for (JsonElement one : metric.getAsJsonObject().getAsJsonArray("measurements")) {
          JsonObject measured = one.getAsJsonObject();
          measures
              .get(string(metric.getAsJsonObject(), "name"))
              .record(
                  measured.getAsJsonPrimitive("value"),
                  attributes(measured.get("attributes")),
                  contexts.get(string(measured, "span")));
        }
      }
      if (round < rounds) { // the last one goes out at the end
        sdk.getSdkMeterProvider().forceFlush().join(10, TimeUnit.SECONDS);
      }
    }
  }

  private static Measure measure(Meter meter, JsonObject metric) {
    String name = string(metric, "name");
    String unit = string(metric, "unit");
    String about = string(metric, "description");
    switch (string(metric, "kind")) {
      case "int_counter": {
        var made = meter.counterBuilder(name).setUnit(unit).setDescription(about).build();
        return (value, attributes, context) -> made.add(value.getAsLong(), attributes, context);
      }
      case "double_counter": {
        var made =
            meter.counterBuilder(name).ofDoubles().setUnit(unit).setDescription(about).build();
        return (value, attributes, context) -> made.add(value.getAsDouble(), attributes, context);
      }
      case "int_up_down_counter": {
        var made = meter.upDownCounterBuilder(name).setUnit(unit).setDescription(about).build();
        return (value, attributes, context) -> made.add(value.getAsLong(), attributes, context);
      }
      case "double_gauge": {
        var made = meter.gaugeBuilder(name).setUnit(unit).setDescription(about).build();
        return (value, attributes, context) -> made.set(value.getAsDouble(), attributes, context);
      }
      case "double_histogram": {
        var builder = meter.histogramBuilder(name).setUnit(unit).setDescription(about);
        List<Double> bounds = new ArrayList<>();
        metric.getAsJsonArray("bounds").forEach(bound -> bounds.add(bound.getAsDouble()));
        if (!bounds.isEmpty()) {
          builder.setExplicitBucketBoundariesAdvice(bounds);
        }
        var made = builder.build();
        return (value, attributes, context) ->
            made.record(value.getAsDouble(), attributes, context);
      }
      default:
        throw new IllegalArgumentException(string(metric, "kind"));
    }
  }

  private void sendLogs(Logger logger) {
    for (JsonElement element : scenario.getAsJsonArray("logs")) {
      JsonObject entry = element.getAsJsonObject();
      var record =
          logger
              .logRecordBuilder()
              .setTimestamp(at(entry.get("time")))
              .setContext(contexts.get(string(entry, "span")))
              .setSeverity(Severity.values()[entry.get("severity").getAsInt()])
              .setSeverityText(string(entry, "text"))
              .setBody(value(entry.get("body")))
              .setAllAttributes(attributes(entry.get("attributes")));
      if (!string(entry, "event").isEmpty()) {
        record.setEventName(string(entry, "event"));
      }
      record.emit();
    }
  }

  private static Attributes attributes(JsonElement plain) {
    AttributesBuilder builder = Attributes.builder();
    plain
        .getAsJsonObject()
        .entrySet()
        .forEach(
            entry -> builder.put(AttributeKey.valueKey(entry.getKey()), value(entry.getValue())));
    return builder.build();
  }

  /** Returns what a value of JSON stands for; {@code {"$bytes": BASE64}} are bytes. */
  private static Value<?> value(JsonElement plain) {
    if (plain.isJsonNull()) {
      return Value.empty();
    }
    if (plain.isJsonArray()) {
      List<Value<?>> items = new ArrayList<>();
      plain.getAsJsonArray().forEach(item -> items.add(value(item)));
      return Value.of(items);
    }
    if (plain.isJsonObject()) {
      JsonObject object = plain.getAsJsonObject();
      if (object.has("$bytes")) {
        return Value.of(Base64.getDecoder().decode(string(object, "$bytes")));
      }
      return Value.of(
          object.entrySet().stream()
              .map(entry -> KeyValue.of(entry.getKey(), value(entry.getValue())))
              .toArray(KeyValue[]::new));
    }
    JsonPrimitive primitive = plain.getAsJsonPrimitive();
    if (primitive.isBoolean()) {
      return Value.of(primitive.getAsBoolean());
    }
    if (primitive.isString()) {
      return Value.of(primitive.getAsString());
    }
    boolean whole = new BigDecimal(primitive.getAsString()).scale() <= 0;
    return whole ? Value.of(primitive.getAsLong()) : Value.of(primitive.getAsDouble());
  }

  private static String string(JsonObject object, String name) {
    return object.get(name).getAsString();
  }

  private Instant at(JsonElement offset) {
    return Instant.EPOCH.plusNanos(scenario.get("base").getAsLong() + offset.getAsLong());
  }

  private static long now() {
    return ChronoUnit.NANOS.between(Instant.EPOCH, Instant.now());
  }
}
