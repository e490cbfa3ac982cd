// An independent reader of the audit's logs: everything about notes and trees is done by
// golang.org/x/mod/sumdb, and nothing here is Cairn's own. It also plays a witness.
//
//	audit_log check [flags] LOCATION LOG    reads a log over HTTP or from a folder, and verifies it
//	audit_log witness-key NAME SEED         prints a witness's verifier key
//	audit_log cosign NAME SEED LOG-KEY      adds the witness's line to the checkpoint on standard input
//	audit_log witness NAME SEED LOG-KEY     serves add-checkpoint on the port that it prints
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Tiles are 256 hashes wide.
const height = 8

func main() {
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == "check":
		err = check(os.Args[2:])
	case len(os.Args) == 4 && os.Args[1] == "witness-key":
		var w *witness
		if w, err = newWitness(os.Args[2], os.Args[3]); err == nil {
			fmt.Println(w.key())
		}
	case len(os.Args) == 5 && os.Args[1] == "cosign":
		err = cosign(os.Args[2], os.Args[3], os.Args[4])
	case len(os.Args) == 5 && os.Args[1] == "witness":
		err = serve(os.Args[2], os.Args[3], os.Args[4])
	default:
		err = errors.New("usage: audit_log check|witness-key|cosign|witness …")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// location is where a log's files are.
type location struct{ base, token string }

func (l location) read(path string) ([]byte, error) {
	if !strings.HasPrefix(l.base, "http://") {
		return os.ReadFile(filepath.Join(l.base, path))
	}
	request, err := http.NewRequest("GET", l.base+"/"+path, nil)
	if err != nil {
		return nil, err
	}
	if l.token != "" {
		request.Header.Set("Authorization", "Bearer "+l.token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != 200 {
		err = fmt.Errorf("%s: %s", path, response.Status)
	}
	return body, err
}

// tiles reads a log's tiles. The paths of tlog-tiles have no height.
type tiles struct {
	from location
	log  string
}

func (t tiles) path(tile tlog.Tile) string {
	path := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", tile.H))
	return t.log + "/tile/" + strings.Replace(path, "data/", "entries/", 1)
}

func (t tiles) Height() int { return height }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range wanted {
		data, err := t.from.read(t.path(tile))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// entries reads the records of all leaves.
func (t tiles) entries(size int64) ([][]byte, error) {
	var records [][]byte
	for first := int64(0); first < size; first += 1 << height {
		width := size - first
		if width > 1<<height {
			width = 1 << height
		}
		data, err := t.from.read(t.path(tlog.Tile{H: height, L: -1, N: first >> height, W: int(width)}))
		if err != nil {
			return nil, err
		}
		for ; width > 0; width-- {
			if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
				return nil, errors.New("a bundle of entries is cut")
			}
			length := int(binary.BigEndian.Uint16(data))
			records = append(records, data[2:2+length])
			data = data[2+length:]
		}
		if len(data) > 0 {
			return nil, errors.New("a bundle of entries is too long")
		}
	}
	return records, nil
}

// open verifies a log's checkpoint, by the log's key and those of witnesses.
func open(data []byte, keys ...note.Verifier) (tlog.Tree, error) {
	var tree tlog.Tree
	opened, err := note.Open(data, note.VerifierList(keys...))
	if err != nil {
		return tree, err
	}
	if len(opened.Sigs) != len(keys) {
		return tree, fmt.Errorf("%d of %d signatures are there", len(opened.Sigs), len(keys))
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != keys[0].Name() {
		return tree, errors.New("not a checkpoint of this log")
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return tree, err
	}
	tree.Hash, err = tlog.ParseHash(lines[2])
	return tree, err
}

func check(arguments []string) error {
	flags := flag.NewFlagSet("check", flag.ExitOnError)
	key := flags.String("key", "", "the log's verifier key")
	token := flags.String("token", "", "access token; without one, entries are not read")
	all := flags.Bool("entries", false, "read entries from a folder")
	old := flags.String("old", "", "file with an older checkpoint of the log")
	proof := flags.String("proof", "", "file with a proof made by cairn audit prove")
	witnessed := flags.String("witness", "", "a witness's verifier key: take the witnessed checkpoint")
	flags.Parse(arguments)
	from := location{flags.Arg(0), *token}
	log := flags.Arg(1)
	verifier, err := note.NewVerifier(*key)
	if err != nil {
		return err
	}
	keys := []note.Verifier{verifier}
	name := log + "/checkpoint"
	if *witnessed != "" {
		w, err := parseWitness(*witnessed)
		if err != nil {
			return err
		}
		keys = append(keys, w)
		name += ".witnessed"
	}
	signed, err := from.read(name)
	if err != nil {
		return err
	}
	tree, err := open(signed, keys...)
	if err != nil {
		return fmt.Errorf("the checkpoint: %w", err)
	}
	reader := tiles{from, log}
	hashes := tlog.TileHashReader(tree, reader)
	// All at once: what comes back is proven to be in the tree, tile by tile.
	var indexes []int64
	for leaf := int64(0); leaf < tree.N; leaf++ {
		indexes = append(indexes, tlog.StoredHashIndex(0, leaf))
	}
	leaves, err := hashes.ReadHashes(indexes)
	if err != nil {
		return fmt.Errorf("the tiles: %w", err)
	}
	if *token != "" || *all {
		if err := checkEntries(tree, reader, leaves); err != nil {
			return fmt.Errorf("the entries: %w", err)
		}
	}
	if *old != "" {
		if err := checkOlder(*old, verifier, tree, hashes); err != nil {
			return fmt.Errorf("the older checkpoint: %w", err)
		}
	}
	if *proof != "" {
		if err := checkProof(*proof, keys); err != nil {
			return fmt.Errorf("the proof: %w", err)
		}
	}
	fmt.Println("ok", tree.N)
	return nil
}

// memory keeps the hashes of a tree that is built from its records.
type memory []tlog.Hash

func (m memory) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var found []tlog.Hash
	for _, index := range indexes {
		found = append(found, m[index])
	}
	return found, nil
}

func checkEntries(tree tlog.Tree, reader tiles, leaves []tlog.Hash) error {
	records, err := reader.entries(tree.N)
	if err != nil {
		return err
	}
	var built memory
	for number, record := range records {
		if tlog.RecordHash(record) != leaves[number] {
			return fmt.Errorf("entry %d is not the leaf that the tiles have", number)
		}
		more, err := tlog.StoredHashes(int64(number), record, built)
		if err != nil {
			return err
		}
		built = append(built, more...)
	}
	root, err := tlog.TreeHash(tree.N, built)
	if err == nil && root != tree.Hash {
		err = errors.New("they do not make the tree that was signed")
	}
	return err
}

func checkOlder(file string, key note.Verifier, tree tlog.Tree, hashes tlog.HashReader) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	older, err := open(data, key)
	if err != nil {
		return err
	}
	path, err := tlog.ProveTree(tree.N, older.N, hashes)
	if err != nil {
		return err
	}
	return tlog.CheckTree(path, tree.N, tree.Hash, older.N, older.Hash)
}

// proofFile is what `cairn audit prove` prints.
type proofFile struct {
	Shard        int      `json:"shard"`
	LeafIndex    int64    `json:"leaf_index"`
	TreeSize     int64    `json:"tree_size"`
	LeafRecord   []byte   `json:"leaf_record"`
	LeafHash     string   `json:"leaf_hash"`
	RootHash     string   `json:"root_hash"`
	Path         []string `json:"path"`
	Checkpoint   string   `json:"checkpoint"`
	VerifierKey  string   `json:"verifier_key"`
	TlogProof    string   `json:"tlog_proof"`
	LogVerifiers string   `json:"log_verifier_key"`
}

func parsePath(lines []string) (tlog.RecordProof, error) {
	var path tlog.RecordProof
	for _, line := range lines {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return nil, err
		}
		path = append(path, hash)
	}
	return path, nil
}

func checkProof(file string, keys []note.Verifier) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var proof proofFile
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&proof); err != nil {
		return err
	}
	// The whole store's key is the log's key under the name without the log's.
	parent, err := note.NewVerifier(proof.VerifierKey)
	if err != nil {
		return err
	}
	log := fmt.Sprintf("%s/%02x", parent.Name(), proof.Shard)
	if log != keys[0].Name() {
		return errors.New("it is of another log")
	}
	logKey, err := note.NewVerifier(proof.LogVerifiers)
	if err != nil {
		return err
	}
	if logKey.Name() != log || logKey.KeyHash() != keys[0].KeyHash() {
		return errors.New("it names another key")
	}
	if publicKey(proof.VerifierKey) != publicKey(proof.LogVerifiers) {
		return errors.New("its two keys are not one")
	}
	// Against the checkpoint over all trees.
	opened, err := note.Open([]byte(proof.Checkpoint), note.VerifierList(parent))
	if err != nil {
		return err
	}
	line := fmt.Sprintf("\n%02x %d %s\n", proof.Shard, proof.TreeSize, proof.RootHash)
	if !strings.Contains(opened.Text, line) {
		return errors.New("its tree is not in the checkpoint over all trees")
	}
	root, err := tlog.ParseHash(proof.RootHash)
	if err != nil {
		return err
	}
	path, err := parsePath(proof.Path)
	if err != nil {
		return err
	}
	leaf := tlog.RecordHash(proof.LeafRecord)
	if leaf.String() != proof.LeafHash {
		return errors.New("its leaf's hash is not that of the record")
	}
	if err := tlog.CheckRecord(path, proof.TreeSize, root, proof.LeafIndex, leaf); err != nil {
		return err
	}
	// In the standard form, against the log's own checkpoint.
	head, signed, found := strings.Cut(proof.TlogProof, "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("it is not in the form of tlog-proof")
	}
	if lines[1] != "extra "+base64.StdEncoding.EncodeToString(proof.LeafRecord) {
		return errors.New("its extra data is not the leaf's record")
	}
	if lines[2] != fmt.Sprintf("index %d", proof.LeafIndex) {
		return errors.New("its index is another")
	}
	tree, err := open([]byte(signed), keys...)
	if err != nil {
		return err
	}
	if path, err = parsePath(lines[3:]); err != nil {
		return err
	}
	return tlog.CheckRecord(path, tree.N, tree.Hash, proof.LeafIndex, leaf)
}

func publicKey(verifier string) string {
	return verifier[strings.LastIndex(verifier, "+"):]
}

// witness makes and verifies cosignature/v1 (C2SP tlog-cosignature).
type witness struct {
	name    string
	public  ed25519.PublicKey
	private ed25519.PrivateKey
}

// The signature type of cosignature/v1.
const cosignature = 4

func newWitness(name, seed string) (*witness, error) {
	bytes, err := hex.DecodeString(seed)
	if err != nil || len(bytes) != ed25519.SeedSize {
		return nil, errors.New("a seed is 32 bytes in hexadecimal")
	}
	private := ed25519.NewKeyFromSeed(bytes)
	return &witness{name, private.Public().(ed25519.PublicKey), private}, nil
}

func parseWitness(key string) (*witness, error) {
	parts := strings.SplitN(key, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("a witness's verifier key has three parts")
	}
	bytes, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(bytes) != 1+ed25519.PublicKeySize || bytes[0] != cosignature {
		return nil, errors.New("not a verifier key for cosignature/v1")
	}
	w := &witness{name: parts[0], public: bytes[1:]}
	if w.key() != key {
		return nil, errors.New("the id of a witness's verifier key is wrong")
	}
	return w, nil
}

func (w *witness) Name() string { return w.name }

func (w *witness) encoded() []byte { return append([]byte{cosignature}, w.public...) }

func (w *witness) KeyHash() uint32 {
	hash := sha256.Sum256(append([]byte(w.name+"\n"), w.encoded()...))
	return binary.BigEndian.Uint32(hash[:])
}

func (w *witness) key() string {
	return fmt.Sprintf("%s+%08x+%s", w.name, w.KeyHash(), base64.StdEncoding.EncodeToString(w.encoded()))
}

func message(time uint64, text []byte) []byte {
	return append([]byte(fmt.Sprintf("cosignature/v1\ntime %d\n", time)), text...)
}

func (w *witness) Sign(text []byte) ([]byte, error) {
	const time = 1772366400
	signature := binary.BigEndian.AppendUint64(nil, time)
	return append(signature, ed25519.Sign(w.private, message(time, text))...), nil
}

func (w *witness) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	time := binary.BigEndian.Uint64(signature)
	return ed25519.Verify(w.public, message(time, text), signature[8:])
}

func cosign(name, seed, key string) error {
	w, err := newWitness(name, seed)
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	opened, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		return err
	}
	cosigned, err := note.Sign(opened, w)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(cosigned)
	return err
}

// watched is what a witness knows of the one log that it watches.
type watched struct {
	*witness
	log    note.Verifier
	newest tlog.Tree
}

func serve(name, seed, key string) error {
	w, err := newWitness(name, seed)
	if err != nil {
		return err
	}
	log, err := note.NewVerifier(key)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	return http.Serve(listener, &watched{witness: w, log: log})
}

// ServeHTTP answers as C2SP tlog-witness says. Requests come one after the other.
func (w *watched) ServeHTTP(out http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	head, signed, found := strings.Cut(string(body), "\n\n")
	lines := strings.Split(head, "\n")
	if err != nil || !found || request.Method != "POST" || request.URL.Path != "/add-checkpoint" {
		http.Error(out, "not add-checkpoint", 400)
		return
	}
	if !strings.HasPrefix(signed, w.log.Name()+"\n") {
		http.Error(out, "an unknown log", 404)
		return
	}
	tree, err := open([]byte(signed), w.log)
	if err != nil {
		http.Error(out, err.Error(), 403)
		return
	}
	if lines[0] != fmt.Sprintf("old %d", w.newest.N) {
		out.Header().Set("Content-Type", "text/x.tlog.size")
		out.WriteHeader(409)
		fmt.Fprintln(out, w.newest.N)
		return
	}
	path, err := parsePath(lines[1:])
	if err == nil && w.newest.N > 0 {
		err = tlog.CheckTree(tlog.TreeProof(path), tree.N, tree.Hash, w.newest.N, w.newest.Hash)
	}
	if err != nil {
		http.Error(out, err.Error(), 422)
		return
	}
	text, _, _ := strings.Cut(signed, "\n\n")
	cosigned, err := note.Sign(&note.Note{Text: text + "\n"}, w)
	if err != nil {
		http.Error(out, err.Error(), 500)
		return
	}
	w.newest = tree
	_, line, _ := strings.Cut(string(cosigned), "\n\n")
	io.WriteString(out, line)
}
