package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/wal"
)

// hostMetric is one counter or gauge of a host.
type hostMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(*host.Stats) float64
}

func counter(name, help string, read func(*host.Stats) float64) hostMetric {
	return hostMetric{prometheus.NewDesc("quorate_"+name, help, nil, nil), prometheus.CounterValue, read}
}

func gauge(name, help string, read func(*host.Stats) float64) hostMetric {
	return hostMetric{prometheus.NewDesc("quorate_"+name, help, nil, nil), prometheus.GaugeValue, read}
}

// hostCollector shows what host.Stats counts, read when it is asked for.
type hostCollector struct {
	host    *host.Host
	metrics []hostMetric

	peerUp, peerSent, peerReceived, peerDropped, peerConnects *prometheus.Desc
	// etcd's names, where the meaning is the same.
	fsyncs, slowApplies, active, sentTo, receivedFrom, failuresTo *prometheus.Desc
	self                                                          string
}

func newHostCollector(h *host.Host, self smr.ReplicaID) *hostCollector {
	etcd := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("etcd_"+name, help, labels, nil)
	}
	peer := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("quorate_peer_"+name, help, []string{"peer"}, nil)
	}
	return &hostCollector{
		host: h, self: hexID(uint64(self)),
		fsyncs:       etcd("disk_wal_fsync_duration_seconds", "The latency distributions of fsync called by WAL."),
		slowApplies:  etcd("server_slow_apply_total", "The total number of slow apply requests (likely overloaded from slow disk)."),
		active:       etcd("network_active_peers", "The current number of active peer connections.", "Local", "Remote"),
		sentTo:       etcd("network_peer_sent_bytes_total", "The total number of bytes sent to peers.", "To"),
		receivedFrom: etcd("network_peer_received_bytes_total", "The total number of bytes received from peers.", "From"),
		failuresTo:   etcd("network_peer_sent_failures_total", "The total number of send failures from peers.", "To"),
		metrics: []hostMetric{
			counter("turns_total", "Turns that the shards have taken.", func(s *host.Stats) float64 { return float64(s.Turns) }),
			counter("proposals_total", "Proposals of this member's clients.", func(s *host.Stats) float64 { return float64(s.Proposals) }),
			counter("reads_total", "Linearizable reads of this member's clients.", func(s *host.Stats) float64 { return float64(s.Reads) }),
			counter("lease_reads_total", "Linearizable reads of this member's clients that it answered by its lease, without asking the others.", func(s *host.Stats) float64 { return float64(s.LeaseReads) }),
			counter("committed_total", "Entries that this member has seen committed.", func(s *host.Stats) float64 { return float64(s.Committed) }),
			counter("forwarded_total", "Proposals sent on to the leader.", func(s *host.Stats) float64 { return float64(s.Forwarded) }),
			counter("reproposed_total", "Proposals made again because a change of leader had lost them.", func(s *host.Stats) float64 { return float64(s.Reproposed) }),
			counter("busy_total", "Requests refused because a queue was full.", func(s *host.Stats) float64 { return float64(s.Busy) }),
			counter("frames_total", "Frames received from the other members.", func(s *host.Stats) float64 { return float64(s.Frames) }),
			counter("bad_frames_total", "Frames that could not be read.", func(s *host.Stats) float64 { return float64(s.BadFrames) }),
			counter("dropped_frames_total", "Frames dropped because the log could not keep up.", func(s *host.Stats) float64 { return float64(s.DroppedFrames) }),
			gauge("groups", "Groups that run here.", func(s *host.Stats) float64 { return float64(s.Groups) }),
			gauge("groups_resting", "Groups in which nothing happens, and which cost nothing.", func(s *host.Stats) float64 { return float64(s.GroupsResting) }),
			counter("pulses_lost_total", "Times that another member fell silent or began anew.", func(s *host.Stats) float64 { return float64(s.PulsesLost) }),
			gauge("log_segments", "Segments of the log in use.", func(s *host.Stats) float64 { return float64(s.Log.Segments) }),
			gauge("log_bytes", "Size of the segments in use.", func(s *host.Stats) float64 { return float64(s.Log.Bytes) }),
			gauge("log_live_bytes", "Bytes of entries that are not compacted.", func(s *host.Stats) float64 { return float64(s.Log.LiveBytes) }),
			counter("log_syncs_total", "Batches written and synced.", func(s *host.Stats) float64 { return float64(s.Log.Syncs) }),
			counter("log_synced_bytes_total", "Bytes written and synced.", func(s *host.Stats) float64 { return float64(s.Log.SyncedBytes) }),
			counter("log_sync_seconds_total", "Time spent in writing and syncing.", func(s *host.Stats) float64 { return s.Log.SyncTime.Seconds() }),
			gauge("log_sync_seconds_max", "The longest time of one batch since the start.", func(s *host.Stats) float64 { return s.Log.SyncTimeMax.Seconds() }),
			counter("log_compactions_total", "Compactions of groups' logs.", func(s *host.Stats) float64 { return float64(s.Compactions) }),
			counter("log_shard_compactions_total", "Those of them that were due to the size of a shard's whole log.", func(s *host.Stats) float64 { return float64(s.CompactionsForShard) }),
			counter("snapshots_taken_total", "Snapshots written.", func(s *host.Stats) float64 { return float64(s.SnapshotsTaken) }),
			counter("snapshots_installed_total", "Snapshots of a leader installed.", func(s *host.Stats) float64 { return float64(s.SnapshotsInstalled) }),
			counter("snapshot_sent_bytes_total", "Bytes of snapshots sent to other members.", func(s *host.Stats) float64 { return float64(s.SnapshotBytesSent) }),
			counter("snapshot_received_bytes_total", "Bytes of snapshots received from other members.", func(s *host.Stats) float64 { return float64(s.SnapshotBytesReceived) }),
			counter("snapshot_resumed_blocks_total", "Blocks that were there already when receiving went on.", func(s *host.Stats) float64 { return float64(s.SnapshotBlocksResumed) }),
			counter("log_disk_stalls_total", "Times that the log's disk did not answer for two election timeouts.", func(s *host.Stats) float64 { return float64(s.DiskStalls) }),
			counter("log_damaged_reads_total", "Reads of the log that found synced entries damaged.", func(s *host.Stats) float64 { return float64(s.DamagedReads) }),
			gauge("log_no_space", "1 if the disk of the log is full.", func(s *host.Stats) float64 { return float(s.Log.NoSpace) }),
		},
		peerUp:       peer("up", "1 if both directions of the connection stand."),
		peerSent:     peer("sent_bytes_total", "Bytes sent to the peer."),
		peerReceived: peer("received_bytes_total", "Bytes received from the peer."),
		peerDropped:  peer("dropped_frames_total", "Frames for the peer that were dropped."),
		peerConnects: peer("connects_total", "Connections made to the peer."),
	}
}

func float(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (c *hostCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		ch <- m.desc
	}
	for _, d := range []*prometheus.Desc{c.peerUp, c.peerSent, c.peerReceived, c.peerDropped, c.peerConnects,
		c.fsyncs, c.slowApplies, c.active, c.sentTo, c.receivedFrom, c.failuresTo} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *hostCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.host.Stats()
	for _, m := range c.metrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.read(&st))
	}
	ch <- prometheus.MustNewConstMetric(c.slowApplies, prometheus.CounterValue, float64(st.SlowApplies))
	ch <- fsyncHistogram(c.fsyncs, &st.Log)
	for _, p := range st.Peers {
		id := hexID(p.ID)
		ch <- prometheus.MustNewConstMetric(c.active, prometheus.GaugeValue, float(p.Up), c.self, id)
		ch <- prometheus.MustNewConstMetric(c.sentTo, prometheus.CounterValue, float64(p.BytesSent), id)
		ch <- prometheus.MustNewConstMetric(c.receivedFrom, prometheus.CounterValue, float64(p.BytesReceived), id)
		ch <- prometheus.MustNewConstMetric(c.failuresTo, prometheus.CounterValue, float64(p.Dropped), id)
		ch <- prometheus.MustNewConstMetric(c.peerUp, prometheus.GaugeValue, float(p.Up), id)
		ch <- prometheus.MustNewConstMetric(c.peerSent, prometheus.CounterValue, float64(p.BytesSent), id)
		ch <- prometheus.MustNewConstMetric(c.peerReceived, prometheus.CounterValue, float64(p.BytesReceived), id)
		ch <- prometheus.MustNewConstMetric(c.peerDropped, prometheus.CounterValue, float64(p.Dropped), id)
		ch <- prometheus.MustNewConstMetric(c.peerConnects, prometheus.CounterValue, float64(p.Connects), id)
	}
}

// fsyncHistogram is the time of the log's batches in etcd's buckets. It counts the
// write too, which is into memory.
func fsyncHistogram(d *prometheus.Desc, l *wal.Stats) prometheus.Metric {
	bars, count := map[float64]uint64{}, uint64(0)
	for i, n := range l.SyncTimes {
		count += n
		if i < wal.SyncTimeBuckets-1 {
			bars[wal.SyncTimeBound(i).Seconds()] = count
		}
	}
	return prometheus.MustNewConstHistogram(d, count, l.SyncTime.Seconds(), bars)
}
