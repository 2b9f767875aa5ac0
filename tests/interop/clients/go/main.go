// franz-go: write ADDRESS, or read ADDRESS TOPIC... The records are those of ../dataset.py.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	count      = 600
	partitions = 3
	beginMs    = 1_700_000_000_000
	wait       = 20 * time.Second
)

var passed, failed int

func valueOf(i int) []byte {
	if i%50 == 7 {
		return nil
	}
	size, word := i*37%1500, fmt.Sprintf("torc %d ", i)
	if i == 500 {
		size = 400_000
	}
	return []byte(strings.Repeat(word, size/len(word)+1)[:size])
}

func keyOf(i int) []byte {
	switch i % 50 {
	case 9:
		return []byte{}
	case 11:
		return nil
	}
	return []byte(fmt.Sprintf("key-%d", i))
}

func headersOf(i int) []kgo.RecordHeader {
	if i%50 == 13 {
		return nil
	}
	return []kgo.RecordHeader{{Key: "n", Value: []byte(fmt.Sprint(i))}, {Key: "empty", Value: []byte{}}}
}

func timestampOf(i int) time.Time {
	return time.UnixMilli(beginMs + 1000*int64(i))
}

func attempt(name string, run func(context.Context) error) {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := run(ctx); err != nil {
		failed++
		fmt.Printf("FAIL  %s: %v\n", name, err)
		return
	}
	passed++
	fmt.Printf("ok    %s: %.1f s\n", name, time.Since(begin).Seconds())
}

func client(address string, more ...kgo.Opt) *kgo.Client {
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(address)}, more...)...)
	if err != nil {
		panic(err) // only a bad option
	}
	return c
}

func create(ctx context.Context, address, topic string, parts int32, configs map[string]*string) error {
	c := client(address)
	defer c.Close()
	done, err := kadm.NewClient(c).CreateTopic(ctx, parts, -1, configs, topic)
	if err == nil {
		err = done.Err
	}
	return err
}

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}
var codecNames = []string{"none", "gzip", "snappy", "lz4", "zstd"}

func write(ctx context.Context, address, codec string) error {
	topic := "franz-" + codec
	if err := create(ctx, address, topic, partitions, nil); err != nil {
		return err
	}
	c := client(address, kgo.ProducerBatchCompression(codecs[codec]), kgo.ProducerLinger(20*time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer c.Close()
	offsets, errs := make([]int64, count), make(chan error, count)
	for i := 0; i < count; i++ {
		i := i
		r := &kgo.Record{Topic: topic, Partition: int32(i % partitions), Key: keyOf(i), Value: valueOf(i),
			Headers: headersOf(i), Timestamp: timestampOf(i)}
		c.Produce(ctx, r, func(r *kgo.Record, err error) {
			offsets[i] = r.Offset
			errs <- err
		})
	}
	for i := 0; i < count; i++ {
		if err := <-errs; err != nil {
			return err
		}
	}
	for i, offset := range offsets {
		if offset != int64(i/partitions) {
			return fmt.Errorf("record %d got offset %d", i, offset)
		}
	}
	return nil
}

func same(a, b []byte) bool {
	return bytes.Equal(a, b) && (a == nil) == (b == nil)
}

func check(r *kgo.Record) error {
	i := int(r.Offset)*partitions + int(r.Partition)
	if !same(r.Key, keyOf(i)) || !same(r.Value, valueOf(i)) {
		return fmt.Errorf("record %d: key %.40q, value %.40q", i, r.Key, r.Value)
	}
	if !r.Timestamp.Equal(timestampOf(i)) {
		return fmt.Errorf("record %d: timestamp %v", i, r.Timestamp)
	}
	if fmt.Sprint(r.Headers) != fmt.Sprint(headersOf(i)) {
		return fmt.Errorf("record %d: headers %v", i, r.Headers)
	}
	return nil
}

func read(ctx context.Context, address, topic string) error {
	from := map[int32]kgo.Offset{}
	for p := int32(0); p < partitions; p++ {
		from[p] = kgo.NewOffset().AtStart()
	}
	c := client(address, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	defer c.Close()
	var next [partitions]int64
	for seen := 0; seen < count; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("after %d records: %w", seen, err)
		}
		for _, r := range fetches.Records() {
			if r.Offset != next[r.Partition] {
				return fmt.Errorf("offset %d for %d", r.Offset, next[r.Partition])
			}
			next[r.Partition]++
			seen++
			if err := check(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func offsetsAndTimes(ctx context.Context, address string) error {
	c := client(address)
	defer c.Close()
	admin := kadm.NewClient(c)
	begins, err := admin.ListStartOffsets(ctx, "franz-none")
	if err != nil {
		return err
	}
	ends, err := admin.ListEndOffsets(ctx, "franz-none")
	if err != nil {
		return err
	}
	found, err := admin.ListOffsetsAfterMilli(ctx, timestampOf(300).UnixMilli(), "franz-none")
	if err != nil {
		return err
	}
	for p := int32(0); p < partitions; p++ {
		b, _ := begins.Lookup("franz-none", p)
		e, _ := ends.Lookup("franz-none", p)
		f, _ := found.Lookup("franz-none", p)
		if b.Offset != 0 || e.Offset != count/partitions || f.Offset != 100 {
			return fmt.Errorf("partition %d: begin %v, end %v, by time %v", p, b, e, f)
		}
	}
	return nil
}

func tooLarge(ctx context.Context, address string) error {
	limit := "1000"
	if err := create(ctx, address, "franz-small", 1, map[string]*string{"max.message.bytes": &limit}); err != nil {
		return err
	}
	c := client(address, kgo.ProducerBatchCompression(kgo.NoCompression()))
	defer c.Close()
	err := c.ProduceSync(ctx, &kgo.Record{Topic: "franz-small", Value: make([]byte, 5000)}).FirstErr()
	if !errors.Is(err, kerr.MessageTooLarge) {
		return fmt.Errorf("a record over max.message.bytes: %v", err)
	}
	return nil
}

func adminCalls(ctx context.Context, address string) error {
	if err := create(ctx, address, "franz-admin", 2, nil); err != nil {
		return err
	}
	if err := create(ctx, address, "franz-admin", 2, nil); !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("a topic created twice: %v", err)
	}
	c := client(address)
	defer c.Close()
	admin := kadm.NewClient(c)
	if _, err := admin.UpdatePartitions(ctx, 4, "franz-admin"); err != nil {
		return err
	}
	about, err := admin.ListTopics(ctx, "franz-admin")
	if err != nil || len(about["franz-admin"].Partitions) != 4 {
		return fmt.Errorf("%v, %v", about, err)
	}
	brokers, err := admin.ListBrokers(ctx)
	if err != nil || len(brokers) != 1 {
		return fmt.Errorf("%v, %v", brokers, err)
	}
	configs, err := admin.DescribeTopicConfigs(ctx, "franz-admin")
	if err != nil || len(configs) != 1 || len(configs[0].Configs) < 20 {
		return fmt.Errorf("%v, %v", configs, err)
	}
	dirs, err := admin.DescribeAllLogDirs(ctx, nil)
	if err != nil || dirs[1].Error() != nil || len(dirs) != 1 {
		return fmt.Errorf("%v, %v", dirs, err)
	}
	if _, err := admin.DeleteTopic(ctx, "franz-admin"); err != nil {
		return err
	}
	left, err := admin.ListTopics(ctx)
	if err != nil || left.Has("franz-admin") {
		return fmt.Errorf("still listed, %v", err)
	}
	return nil
}

func main() {
	mode, address := os.Args[1], os.Args[2]
	with := func(run func(context.Context, string) error) func(context.Context) error {
		return func(ctx context.Context) error { return run(ctx, address) }
	}
	about := func(run func(context.Context, string, string) error, what string) func(context.Context) error {
		return func(ctx context.Context) error { return run(ctx, address, what) }
	}
	if mode == "read" {
		for _, topic := range os.Args[3:] {
			attempt("reads "+topic, about(read, topic))
		}
	} else {
		for _, codec := range codecNames {
			attempt("writes "+codec+", idempotent", about(write, codec))
		}
		attempt("offsets and times", with(offsetsAndTimes))
		attempt("too large", with(tooLarge))
		attempt("admin calls", with(adminCalls))
	}
	fmt.Printf("# passed=%d failed=%d skipped=0\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
