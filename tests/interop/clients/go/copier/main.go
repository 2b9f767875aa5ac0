// franz-go as a copier: ADDRESS SOURCE TARGET NAME SIZE, see tests/interop/copy/run.py.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	address, source, target, name := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	size, _ := strconv.Atoi(os.Args[5])
	ctx := context.Background()
	s, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(address), kgo.TransactionalID(name),
		kgo.TransactionTimeout(5*time.Second), kgo.ConsumerGroup(name), kgo.ConsumeTopics(source),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(200*time.Millisecond),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets(),
		kgo.InstanceID(name), kgo.HeartbeatInterval(300*time.Millisecond),
		kgo.Balancers(kgo.RangeBalancer()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		panic(err) // only a bad option
	}
	for count := 1; ; {
		records := s.PollRecords(ctx, size).Records()
		if len(records) == 0 {
			continue
		}
		if err := s.Begin(); err != nil {
			fmt.Println("error", err)
			os.Exit(3)
		}
		for _, r := range records {
			s.Produce(ctx, &kgo.Record{Topic: target, Partition: r.Partition, Key: r.Key, Value: r.Value}, nil)
		}
		_ = s.Client().Flush(ctx)
		time.Sleep(20 * time.Millisecond) // be found with an open transaction
		committed, err := s.End(ctx, kgo.TransactionEndTry(count%5 != 0))
		count++
		switch {
		case err != nil:
			fmt.Println("error", err)
			os.Exit(3)
		case committed:
			fmt.Println("committed", len(records))
		default:
			fmt.Println("aborted")
		}
	}
}
