// Talks to the Redis at the address of the first argument, with go-redis as it comes. The second argument is the
// password, if there is one. Ends with 0 when every answer is right.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	options := &redis.Options{Addr: os.Args[1]}
	if len(os.Args) > 2 {
		options.Password = os.Args[2]
	}
	for _, protocol := range []int{0, 2, 3} {
		options.Protocol = protocol
		if err := use(ctx, redis.NewClient(options)); err != nil {
			fmt.Fprintf(os.Stderr, "protocol %d: %v\n", protocol, err)
			os.Exit(1)
		}
	}
	fmt.Println("go-redis", redis.Version(), "is content")
}

func use(ctx context.Context, client *redis.Client) error {
	defer client.Close()
	if err := client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("PING: %w", err)
	}
	pipe := client.Pipeline()
	for n := 0; n < 200; n++ {
		pipe.Set(ctx, fmt.Sprintf("go%d", n), n, time.Minute)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("a pipeline of SET: %w", err)
	}
	values, err := client.MGet(ctx, "go1", "nosuch", "go199").Result()
	if err != nil || len(values) != 3 || values[0] != "1" || values[1] != nil || values[2] != "199" {
		return fmt.Errorf("MGET: %v %w", values, err)
	}
	if err := client.HSet(ctx, "gohash", "f", "v", "g", "w").Err(); err != nil {
		return fmt.Errorf("HSET: %w", err)
	}
	hash, err := client.HGetAll(ctx, "gohash").Result()
	if err != nil || len(hash) != 2 || hash["g"] != "w" {
		return fmt.Errorf("HGETALL: %v %w", hash, err)
	}
	client.ZAdd(ctx, "gozset", redis.Z{Score: 1.5, Member: "m"})
	scores, err := client.ZRangeWithScores(ctx, "gozset", 0, -1).Result()
	if err != nil || len(scores) != 1 || scores[0].Score != 1.5 {
		return fmt.Errorf("ZRANGE WITHSCORES: %v %w", scores, err)
	}
	if err := client.Get(ctx, "nosuch").Err(); !errors.Is(err, redis.Nil) {
		return fmt.Errorf("GET of nothing: %w", err)
	}
	if err := client.SMove(ctx, "goa", "gob", 1).Err(); err == nil {
		return errors.New("keys of several slots were not refused")
	}
	deleted, err := client.Del(ctx, "go0", "go1", "go2", "nosuch").Result()
	if err != nil || deleted != 3 {
		return fmt.Errorf("DEL: %d %w", deleted, err)
	}
	return useWhatOneConnectionRemembers(ctx, client)
}

func useWhatOneConnectionRemembers(ctx context.Context, client *redis.Client) error {
	client.Set(ctx, "{go}n", 1, 0)
	increment := func(pipe redis.Pipeliner) error { return pipe.Incr(ctx, "{go}n").Err() }
	if commands, err := client.TxPipelined(ctx, increment); err != nil || len(commands) != 1 {
		return fmt.Errorf("a transaction: %v %w", commands, err)
	}
	err := client.Watch(ctx, func(tx *redis.Tx) error {
		_, err := tx.TxPipelined(ctx, increment)
		return err
	}, "{go}n")
	if err != nil {
		return fmt.Errorf("WATCH: %w", err)
	}
	err = client.Watch(ctx, func(tx *redis.Tx) error {
		client.Set(ctx, "{go}n", 7, 0)
		_, err := tx.TxPipelined(ctx, increment)
		return err
	}, "{go}n")
	if !errors.Is(err, redis.TxFailedErr) {
		return fmt.Errorf("WATCH of a key that changes: %w", err)
	}
	client.Del(ctx, "{go}l")
	client.RPush(ctx, "{go}l", "a")
	popped, err := client.BLPop(ctx, time.Second, "{go}l").Result()
	if err != nil || len(popped) != 2 || popped[1] != "a" {
		return fmt.Errorf("BLPOP: %v %w", popped, err)
	}
	listener := client.Subscribe(ctx, "goa", "gob")
	defer listener.Close()
	for range 2 {
		if _, err := listener.Receive(ctx); err != nil {
			return fmt.Errorf("SUBSCRIBE: %w", err)
		}
	}
	if err := client.Publish(ctx, "gob", "hello").Err(); err != nil {
		return fmt.Errorf("PUBLISH: %w", err)
	}
	message, err := listener.ReceiveMessage(ctx)
	if err != nil || message.Payload != "hello" {
		return fmt.Errorf("a message: %v %w", message, err)
	}
	script := redis.NewScript("return redis.call('INCRBY', KEYS[1], ARGV[1])")
	client.Set(ctx, "{go}s", 1, 0)
	if sum, err := script.Run(ctx, client, []string{"{go}s"}, 2).Int(); err != nil || sum != 3 {
		return fmt.Errorf("a script: %d %w", sum, err)
	}
	found, keys := 0, client.Scan(ctx, 0, "*", 100).Iterator()
	for keys.Next(ctx) {
		found++
	}
	size, err := client.DBSize(ctx).Result()
	if err != nil || keys.Err() != nil || int64(found) < size {
		return fmt.Errorf("SCAN found %d of %d keys: %w %w", found, size, keys.Err(), err)
	}
	return nil
}
