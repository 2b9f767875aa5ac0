// franz-go as a member: ADDRESS TOPIC GROUP COUNT IDLE_S, see tests/interop/groups/members.py.
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	address, topic, group := os.Args[1], os.Args[2], os.Args[3]
	count, _ := strconv.Atoi(os.Args[4])
	idleS, _ := strconv.ParseFloat(os.Args[5], 64)
	ctx := context.Background()
	c, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(), kgo.SessionTimeout(10*time.Second),
		kgo.HeartbeatInterval(500*time.Millisecond), kgo.FetchMaxWait(time.Second),
		kgo.Balancers(kgo.RangeBalancer()),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
			got := parts[topic]
			sort.Slice(got, func(i, j int) bool { return got[i] < got[j] })
			fmt.Print("assigned")
			for _, p := range got {
				fmt.Print(" ", p)
			}
			fmt.Println()
		}),
		kgo.OnPartitionsRevoked(func(ctx context.Context, c *kgo.Client, _ map[string][]int32) {
			c.CommitUncommittedOffsets(ctx)
		}))
	if err != nil {
		panic(err) // only a bad option
	}
	last, got := time.Now().Add(10*time.Second), 0
	for got < count && time.Since(last) < time.Duration(idleS*float64(time.Second)) {
		poll, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		fetches := c.PollRecords(poll, count-got)
		cancel()
		fetches.EachRecord(func(r *kgo.Record) {
			fmt.Println("record", r.Partition, r.Offset)
			last = time.Now()
			got++
		})
	}
	if err := c.CommitUncommittedOffsets(ctx); err != nil {
		fmt.Println("error", err)
	}
	c.Close()
}
