// Sends what a scenario says (see ../scenario.py) with OpenTelemetry's Go SDK, to where and how
// OpenTelemetry's environment variables say, and prints the ids and times that it chose.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otellog "go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

type attributes map[string]any

type scenario struct {
	Base     int64 `json:",string"`
	Rounds   int
	Scope    struct{ Name, Version string }
	Resource attributes
	Spans    []struct {
		Name, Kind, Parent string
		Start, End         int64
		Attributes         attributes
		Events             []struct {
			Name       string
			Time       int64
			Attributes attributes
		}
		Links []struct {
			Span       string
			Attributes attributes
		}
		Status struct{ Code, Message string }
	}
	Metrics []struct {
		Name, Kind, Unit, Description string
		Bounds                        []float64
		Measurements                  []struct {
			Value      json.Number
			Attributes attributes
			Span       string
		}
	}
	Logs []struct {
		Time       int64
		Severity   int
		Text       string
		Event      string
		Body       any
		Attributes attributes
		Span       string
	}
}

var kinds = map[string]trace.SpanKind{
	"INTERNAL": trace.SpanKindInternal, "SERVER": trace.SpanKindServer, "CLIENT": trace.SpanKindClient,
	"PRODUCER": trace.SpanKindProducer, "CONSUMER": trace.SpanKindConsumer,
}

var statuses = map[string]codes.Code{"": codes.Unset, "OK": codes.Ok, "ERROR": codes.Error}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

// value returns what a value of JSON stands for; `{"$bytes": BASE64}` are bytes.
func value(plain any) attribute.Value {
	switch v := plain.(type) {
	case nil:
		return attribute.Value{}
	case string:
		return attribute.StringValue(v)
	case bool:
		return attribute.BoolValue(v)
	case json.Number:
		if whole, err := v.Int64(); err == nil {
			return attribute.Int64Value(whole)
		}
		return attribute.Float64Value(must(v.Float64()))
	case []any:
		items := make([]attribute.Value, len(v))
		for i, item := range v {
			items[i] = value(item)
		}
		return attribute.SliceValue(items...)
	case map[string]any:
		if encoded, ok := v["$bytes"].(string); ok {
			return attribute.ByteSliceValue(must(base64.StdEncoding.DecodeString(encoded)))
		}
		return attribute.MapValue(attributes(v).keyValues()...)
	}
	log.Fatalf("no value: %v", plain)
	return attribute.Value{}
}

func (a attributes) keyValues() []attribute.KeyValue {
	var found []attribute.KeyValue
	for name, plain := range a {
		found = append(found, attribute.KeyValue{Key: attribute.Key(name), Value: value(plain)})
	}
	return found
}

func exporters(ctx context.Context) (sdktrace.SpanExporter, sdkmetric.Exporter, sdklog.Exporter) {
	switch protocol := os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"); protocol {
	case "http/protobuf":
		return must(otlptracehttp.New(ctx)), must(otlpmetrichttp.New(ctx)), must(otlploghttp.New(ctx))
	case "grpc":
		return must(otlptracegrpc.New(ctx)), must(otlpmetricgrpc.New(ctx)), must(otlploggrpc.New(ctx))
	default:
		log.Fatalf("no protocol %q", protocol)
		return nil, nil, nil
	}
}

func (s *scenario) at(offset int64) time.Time { return time.Unix(0, s.Base+offset) }

// sendSpans returns the contexts of the spans, by name.
func (s *scenario) sendSpans(ctx context.Context, tracer trace.Tracer) map[string]context.Context {
	contexts := map[string]context.Context{"": ctx}
	for _, span := range s.Spans {
		options := []trace.SpanStartOption{
			trace.WithSpanKind(kinds[span.Kind]), trace.WithTimestamp(s.at(span.Start)),
			trace.WithAttributes(span.Attributes.keyValues()...),
		}
		for _, link := range span.Links {
			options = append(options, trace.WithLinks(trace.Link{
				SpanContext: trace.SpanContextFromContext(contexts[link.Span]), Attributes: link.Attributes.keyValues(),
			}))
		}
		inside, begun := tracer.Start(contexts[span.Parent], span.Name, options...)
		for _, event := range span.Events {
			begun.AddEvent(event.Name, trace.WithTimestamp(s.at(event.Time)), trace.WithAttributes(event.Attributes.keyValues()...))
		}
		begun.SetStatus(statuses[span.Status.Code], span.Status.Message)
		begun.End(trace.WithTimestamp(s.at(span.End)))
		contexts[span.Name] = inside
	}
	return contexts
}

type record func(ctx context.Context, value json.Number, with metric.MeasurementOption)

// instrument returns what records a value of one metric.
func instrument(meter metric.Meter, name, kind, unit, description string, bounds []float64) record {
	u, d := metric.WithUnit(unit), metric.WithDescription(description)
	switch kind {
	case "int_counter":
		made := must(meter.Int64Counter(name, u, d))
		return func(ctx context.Context, v json.Number, with metric.MeasurementOption) {
			made.Add(ctx, must(v.Int64()), with)
		}
	case "double_counter":
		made := must(meter.Float64Counter(name, u, d))
		return func(ctx context.Context, v json.Number, with metric.MeasurementOption) {
			made.Add(ctx, must(v.Float64()), with)
		}
	case "int_up_down_counter":
		made := must(meter.Int64UpDownCounter(name, u, d))
		return func(ctx context.Context, v json.Number, with metric.MeasurementOption) {
			made.Add(ctx, must(v.Int64()), with)
		}
	case "double_gauge":
		made := must(meter.Float64Gauge(name, u, d))
		return func(ctx context.Context, v json.Number, with metric.MeasurementOption) {
			made.Record(ctx, must(v.Float64()), with)
		}
	case "double_histogram":
		made := must(meter.Float64Histogram(name, u, d, metric.WithExplicitBucketBoundaries(bounds...)))
		return func(ctx context.Context, v json.Number, with metric.MeasurementOption) {
			made.Record(ctx, must(v.Float64()), with)
		}
	}
	log.Fatalf("no kind of metric: %q", kind)
	return nil
}

func (s *scenario) sendMetrics(contexts map[string]context.Context, provider *sdkmetric.MeterProvider) {
	meter := provider.Meter(s.Scope.Name, metric.WithInstrumentationVersion(s.Scope.Version))
	records := map[string]record{}
	for _, m := range s.Metrics {
		records[m.Name] = instrument(meter, m.Name, m.Kind, m.Unit, m.Description, m.Bounds)
	}
	for round := range s.Rounds {
		for _, m := range s.Metrics {
			for _, measured := range m.Measurements {
				records[m.Name](contexts[measured.Span], measured.Value, metric.WithAttributes(measured.Attributes.keyValues()...))
			}
		}
		if round+1 < s.Rounds { // the last one goes out at the end
			must(0, provider.ForceFlush(contexts[""]))
		}
	}
}

func (s *scenario) sendLogs(contexts map[string]context.Context, logger otellog.Logger) {
	for _, entry := range s.Logs {
		var made otellog.Record
		made.SetTimestamp(s.at(entry.Time))
		made.SetSeverity(otellog.Severity(entry.Severity))
		made.SetSeverityText(entry.Text)
		made.SetEventName(entry.Event)
		made.SetBody(value(entry.Body))
		made.AddAttributes(entry.Attributes.keyValues()...)
		logger.Emit(contexts[entry.Span], made)
	}
}

func main() {
	ctx := context.Background()
	var s scenario
	decoder := json.NewDecoder(bytes.NewReader(must(os.ReadFile(os.Args[1]))))
	decoder.UseNumber()
	must(0, decoder.Decode(&s))

	spans, metrics, logs := exporters(ctx)
	whose := must(resource.New(ctx, resource.WithFromEnv(), resource.WithTelemetrySDK(), resource.WithAttributes(s.Resource.keyValues()...)))
	tracers := sdktrace.NewTracerProvider(sdktrace.WithBatcher(spans), sdktrace.WithResource(whose))
	exponential := sdkmetric.NewView(sdkmetric.Instrument{Name: "*.size"}, sdkmetric.Stream{
		Aggregation: sdkmetric.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 20},
	})
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewPeriodicReader(metrics)), sdkmetric.WithResource(whose), sdkmetric.WithView(exponential))
	loggers := sdklog.NewLoggerProvider(sdklog.WithProcessor(sdklog.NewBatchProcessor(logs)), sdklog.WithResource(whose))

	begin := time.Now()
	contexts := s.sendSpans(ctx, tracers.Tracer(s.Scope.Name, trace.WithInstrumentationVersion(s.Scope.Version)))
	s.sendMetrics(contexts, meters)
	s.sendLogs(contexts, loggers.Logger(s.Scope.Name, otellog.WithInstrumentationVersion(s.Scope.Version)))
	must(0, tracers.Shutdown(ctx))
	must(0, meters.Shutdown(ctx))
	must(0, loggers.Shutdown(ctx))

	ids := map[string][]string{}
	for name, inside := range contexts {
		if found := trace.SpanContextFromContext(inside); found.IsValid() {
			ids[name] = strings.Split(fmt.Sprint(found.TraceID(), " ", found.SpanID()), " ")
		}
	}
	sent := map[string]any{"spans": ids, "metrics": []int64{begin.UnixNano(), time.Now().UnixNano()}}
	must(0, json.NewEncoder(os.Stdout).Encode(sent))
}
