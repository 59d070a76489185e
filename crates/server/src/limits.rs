//! Every bound of the server, in one place, so that what the memory of a connection can come to is read here.
//!
//! A connection has at most one run of operations on its way to the storage thread and back, and reads nothing
//! while it has answers to send. So its memory is bounded by one turn's input and one turn's answers:
//! [`READ_BYTES_PER_TURN`] and a partial request on the way in, [`BYTES_PER_RUN`] and one value on the way out. What all
//! of them hold together is charged on the [`meter`](crate::meter): where it has grown too much, each is given less.

/// Bytes that one connection may read in one turn of its event loop, so that a busy one does not starve the rest.
pub const READ_BYTES_PER_TURN: usize = 64 << 10;

/// Bytes of one large value that are read in one turn, straight into its own mapping.
pub const LARGE_READ_BYTES_PER_TURN: usize = 256 << 10;

/// Bytes of one large value that are charged and asked for at a time, before they are read.
pub const RESERVE_BYTES: usize = 1 << 20;

/// Operations of one connection in one turn after which the rest of what was read waits for the next one, with those of
/// one line more. Binary requests are long enough that no more of them are read at a time; keys and empty lines are not.
pub const OPS_PER_TURN: usize = 4 << 10;

/// Input bytes after which a batch takes no further connection and is sent.
pub const INPUT_BYTES_PER_BATCH: usize = 512 << 10;

/// Bytes of answers and of values copied for it after which the storage thread leaves the rest of a connection's
/// requests for a later batch.
pub const BYTES_PER_RUN: usize = 256 << 10;

/// The same for all connections of a batch.
pub const BYTES_PER_BATCH: usize = 2 << 20;

/// A batch's buffer that has grown beyond this is given back before the batch is used again.
pub const BATCH_BUFFER_BYTES_KEPT: usize = 1 << 20;

/// After so many uses a batch's buffers are cut to what was needed meanwhile.
pub const BATCH_USES_PER_LOOK: u32 = 1024;

/// [`BATCH_BUFFER_BYTES_KEPT`] for the buffer in which an event loop words answers.
pub const OUTPUT_BYTES_KEPT: usize = 512 << 10;

/// Batches of one event loop on their way at the same time. This bounds the storage thread's queue, too.
pub const BATCHES_PER_LOOP: usize = 2;

/// An unfinished request up to this long is copied into the next batch and completed there; a longer one is
/// completed in the connection's own buffer, so that a request that trickles in is not copied again and again.
pub const TAIL_BYTES_COPIED: usize = 4 << 10;

/// What a connection holds besides its buffers: itself, its slot, its socket's part of the poll.
pub const CONNECTION_BYTES: usize = 1 << 10;

/// What waits for a client lies in a mapping of its own from this length on: an allocator may keep what is given back
/// to it.
pub const MAPPED_WAITING_BYTES: usize = 4 << 10;
/// As long as no more than this waits, it lies on the heap whatever its length: most of it waits for a moment only, and a
/// mapping costs more than that.
pub const HEAP_WAITING_BYTES: usize = 4 << 20;

/// What clients may hold at the least before the server is [crowded](crate::meter::Crowding).
pub const CROWD_BYTES_MIN: usize = 4 << 20;
/// [`READ_BYTES_PER_TURN`] where it is.
pub const CROWDED_READ_BYTES_PER_TURN: usize = 4 << 10;
/// The same where it is packed.
pub const PACKED_READ_BYTES_PER_TURN: usize = 512;
/// [`BYTES_PER_RUN`] where it is crowded, and the longest value that is answered then.
pub const CROWDED_BYTES_PER_RUN: usize = 16 << 10;
/// The same where it is packed.
pub const PACKED_BYTES_PER_RUN: usize = 1 << 10;

/// Unfinished requests longer than [`TAIL_BYTES_COPIED`] may have so many bytes together, at the least.
pub const UNFINISHED_BYTES_MIN: usize = 1 << 20;

/// Slices in one `writev`.
pub const SLICES_PER_WRITE: usize = 64;

/// What rustls may hold of answers that are encrypted, for each connection.
pub const TLS_BUFFER_BYTES: usize = 32 << 10;
/// What a connection takes for TLS while it is idle.
pub const TLS_CONNECTION_BYTES: usize = 8 << 10;
/// What rustls keeps at most of records, or of a message of the handshake, that are not whole.
pub const TLS_RAW_BYTES_MAX: usize = 64 << 10;
/// Reads of a TLS socket in one turn. Each gives 4 KiB or more, so that most turns end with what they may read.
pub const TLS_READS_PER_TURN: usize = 64;

/// Events taken from one poll.
pub const EVENTS_PER_POLL: usize = 1024;

/// Connections accepted before the listener looks at its signals again.
pub const ACCEPTS_PER_TURN: usize = 256;

/// A request for which there is no room among those being received waits unread, and tries again after this.
pub const RECEIVE_RETRY_MS: u64 = 10;
/// How many of those that wait try again at a time.
pub const RECEIVE_RETRIES: usize = 8;
/// A long request of which nothing arrives for so long, or twice as long at most, is given up, with its connection:
/// others wait for its room. So is a client that takes nothing of its answers, while clients hold too much.
pub const STALL_MS: u64 = 10_000;

/// A connection that is closed for an error still reads so many bytes, for so long, because closing a socket with
/// unread input makes the kernel send RST, which can destroy the answer on its way.
pub const LINGER_BYTES: usize = 1 << 20;
/// See [`LINGER_BYTES`].
pub const LINGER_MS: u64 = 1000;

/// Bytes that a snapshot asks for at a time. The storage thread copies them within some 20 us, and nobody waits longer
/// for that than for another connection's batch.
pub const SNAPSHOT_PIECE_BYTES: usize = 64 << 10;
/// Bytes of a snapshot behind which it gets a seal.
pub const SNAPSHOT_SEAL_BYTES: usize = 256 << 10;
/// A packet that begins so far behind the last seal is damage: what is restored is held in memory until its seal comes.
pub const SNAPSHOT_UNSEALED_BYTES_MAX: usize = 8 << 20;
/// Bytes of a snapshot that go to the disk or come from it at a time, and are waited for. The system holds no more of it than
/// that.
pub const SNAPSHOT_BLOCK_BYTES: usize = 1 << 20;
/// How fast a snapshot is written, if there is time for that: slow enough that the processor and the disk are free for
/// clients nearly always.
pub const SNAPSHOT_BYTES_PER_S: u64 = 64 << 20;
/// There is time up to this part of the interval between two.
pub const SNAPSHOT_PART_OF_INTERVAL: u32 = 4;
/// It rests at least for as long as a piece took, but then not longer than this.
pub const SNAPSHOT_REST_MS: u64 = 50;
/// Times that a snapshot begins anew because everything was flushed meanwhile.
pub const SNAPSHOT_STARTS_MAX: u32 = 4;
/// How long the last snapshot of an orderly shutdown may take.
pub const SNAPSHOT_AT_END_MS: u64 = 60_000;
/// A restart goes on with the version that the snapshot tells and so many for each millisecond since. No storage thread
/// writes that many.
pub const VERSIONS_PER_MS_MAX: u64 = 1 << 14;
/// Connections that HTTP serves at a time. Further ones wait in the backlog.
pub const HTTP_CONNECTIONS_MAX: usize = 2048;
/// What an HTTP connection holds besides the values that it moves: itself and its buffers.
pub const HTTP_CONNECTION_BYTES: usize = 24 << 10;
/// The longest head of an HTTP request.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 << 10;
/// Header fields of an HTTP request, at most.
pub const HTTP_FIELDS_MAX: usize = 64;
/// An HTTP client that sends nothing of a request or takes nothing of an answer for so long is given up.
pub const HTTP_STALL_MS: u64 = 10_000;
/// Connections that may wait for changes of the same item.
pub const WATCHERS_PER_KEY_MAX: usize = 4096;
/// Connections that may wait for changes of any item.
pub const WATCHERS_MAX: usize = 64 << 10;
/// What each of them takes: a note with the storage thread, and a place among its front end's. The request that is to be
/// asked again is charged by its connection.
pub const WATCHER_BYTES: usize = 128;
/// Those that are woken between two batches.
pub const WAKES_PER_TURN: usize = 1024;
/// Of the connections of HTTP so many may wait for changes: the rest is for who wants to know how the server is.
pub const HTTP_WATCHERS_MAX: usize = HTTP_CONNECTIONS_MAX - 128;
/// The longest wait for a change of an item, and how long it is where nobody says.
pub const WATCH_WAIT_MS_MAX: u32 = 600_000;
/// See [`WATCH_WAIT_MS_MAX`].
pub const WATCH_WAIT_MS: u32 = 30_000;

/// How long an orderly shutdown waits for answers to be taken, where `--drain-timeout` says nothing else.
pub const DRAIN_MS: u64 = 5000;
/// The longest that can be configured.
pub const DRAIN_SECONDS_MAX: u32 = 3600;

/// How long the listener waits when the process has run out of file descriptors.
pub const ACCEPT_PAUSE_MS: u64 = 10;

/// How long a stranger has to say who he is, unless the operator says otherwise.
pub const AUTH_TIMEOUT_MS: u64 = 10_000;
/// The same for his longest request, which is read in one turn.
pub const AUTH_REQUEST_BYTES_MAX: usize = 1 << 10;
/// The same for his failures on one connection.
pub const AUTH_FAILURES_MAX: u32 = 3;
/// Clients that are not let in yet and get a turn in one batch: a password that is wrong costs as much as a thousand requests,
/// and so may a handshake, and members are not to wait for many of them.
pub const NEWCOMERS_PER_TURN: usize = 1;
/// So many connections may be gone before a queue of those that have a while for something is looked through for them.
pub const DEADLINES_GONE_MIN: usize = 64;

/// Users of a password file: all names are looked at for each authentication.
pub const USERS_MAX: usize = 64;
/// The longest line of it, its end not counted: memcached's.
pub const USER_LINE_BYTES_MAX: usize = 254;
/// The longest password file.
pub const USERS_FILE_BYTES_MAX: usize = USERS_MAX * (USER_LINE_BYTES_MAX + 2);
/// The most iterations that a line may ask for: a wrong password costs an I/O thread so many, 2 ms or more, and those that
/// come with it wait.
pub const ITERATIONS_MAX: u32 = 16_384;

/// So many times a connection is found idle before it has been idle for the configured time.
pub const IDLE_LOOKS: u8 = 4;

/// The smallest and the largest segment of the log.
pub const SEGMENT_BYTES_MIN: usize = 64 << 10;
/// See [`SEGMENT_BYTES_MIN`].
pub const SEGMENT_BYTES_MAX: usize = 1 << 20;
/// Segments that the memory limit is cut into, where neither bound of their size holds.
pub const SEGMENTS_AIM: usize = 1024;
/// A record longer than this share of a segment keeps its value in a mapping of its own.
pub const RECORDS_PER_SEGMENT_MIN: usize = 8;

/// A value from so many bytes on is sent from where it lies in the log; a shorter one is copied. On one core, 8
/// connections with 16 GETs under way: level at 1500 B, 6 % to 10 % less processor time at 3000, a half at 10,000.
pub const LENT_BYTES_MIN: usize = 2 << 10;

/// Operations looked up together, so that the processor waits for their memory at the same time. More than it can wait
/// for is worse: over 10M items a GET costs 160 ns with 16, 270 with 32, 900 alone (`cargo bench --bench engine`).
pub const LOOKUPS_AHEAD: usize = 16;

/// Counters in values longer than this are no numbers, as in memcached, which cuts them into chunks.
pub const COUNTER_ITEM_BYTES_MAX: usize = 512 << 10;

/// Prefixes that `stats detail` tells apart; the keys of further ones are not counted.
pub const DETAIL_PREFIXES_MAX: usize = 10_000;

/// The largest value that can be configured.
pub const ITEM_BYTES_CEILING: usize = 1 << 30;
/// The least that the largest value can be configured to.
pub const ITEM_BYTES_FLOOR: usize = 1 << 10;

const _: () = assert!(SEGMENT_BYTES_MIN / RECORDS_PER_SEGMENT_MIN > 32 + wire::KEY_BYTES_MAX + 8 + 24);
const _: () = assert!(OPS_PER_TURN > READ_BYTES_PER_TURN / 24);
const _: () = assert!(READ_BYTES_PER_TURN > TAIL_BYTES_COPIED + 24 + 20 + wire::KEY_BYTES_MAX);
const _: () = assert!(UNFINISHED_BYTES_MIN >= 2 * SEGMENT_BYTES_MAX / RECORDS_PER_SEGMENT_MIN);
const _: () =
    assert!(AUTH_REQUEST_BYTES_MAX <= TAIL_BYTES_COPIED, "a stranger's request is never a long one");
const _: () = assert!(PACKED_READ_BYTES_PER_TURN > 24 + 20 + wire::KEY_BYTES_MAX);
const _: () =
    assert!(READ_BYTES_PER_TURN + TAIL_BYTES_COPIED < RESERVE_BYTES, "what comes with a head is reserved");
const _: () = assert!(INPUT_BYTES_PER_BATCH + READ_BYTES_PER_TURN + ITEM_BYTES_FLOOR < u32::MAX as usize);
const _: () = assert!(SNAPSHOT_UNSEALED_BYTES_MAX >= 2 * (SNAPSHOT_SEAL_BYTES + SEGMENT_BYTES_MAX));
const _: () = assert!(ITEM_BYTES_CEILING <= wire::FRAME_BODY_BYTES_MAX as usize);
