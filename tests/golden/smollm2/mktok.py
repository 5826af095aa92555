# Build a faithful HF tokenizer.json from GGUF metadata (gpt2 / pre=smollm)
import gguf, json, sys
r=gguf.GGUFReader(__import__('os').environ['ASSETS']+'/models/SmolLM2-135M-Instruct.Q4_1.gguf'); g=lambda k:r.fields[k].contents()
toks=g('tokenizer.ggml.tokens'); ty=g('tokenizer.ggml.token_type'); mer=g('tokenizer.ggml.merges')
added=[dict(id=i,content=t,single_word=False,lstrip=False,rstrip=False,normalized=False,special=True) for i,(t,y) in enumerate(zip(toks,ty)) if y==3]
j=dict(version='1.0',truncation=None,padding=None,added_tokens=added,normalizer=None,
 pre_tokenizer=dict(type='Sequence',pretokenizers=[dict(type='Digits',individual_digits=True),dict(type='ByteLevel',add_prefix_space=False,trim_offsets=True,use_regex=True)]),
 post_processor=None,decoder=dict(type='ByteLevel',add_prefix_space=True,trim_offsets=True,use_regex=True),
 model=dict(type='BPE',dropout=None,unk_token=None,continuing_subword_prefix=None,end_of_word_suffix=None,fuse_unk=False,byte_fallback=False,ignore_merges=False,vocab={t:i for i,t in enumerate(toks)},merges=[m.split(' ',1) for m in mer]))
cfg=dict(tokenizer_class='PreTrainedTokenizerFast',add_prefix_space=False,bos_token='<|im_start|>',eos_token='<|im_end|>',unk_token='<|endoftext|>',pad_token='<|im_end|>',clean_up_tokenization_spaces=False,model_max_length=8192,chat_template=g('tokenizer.chat_template'))
for d in ('f32','bf16'):
    p=__import__('os').environ['ASSETS']+f'/models/smollm2-135m-instruct-{d}/'
    json.dump(j,open(p+'tokenizer.json','w'),ensure_ascii=False); json.dump(cfg,open(p+'tokenizer_config.json','w'),indent=1)
    json.dump(dict(bos_token='<|im_start|>',eos_token='<|im_end|>',unk_token='<|endoftext|>',pad_token='<|im_end|>'),open(p+'special_tokens_map.json','w'))
print(len(added),[a['content'] for a in added])
